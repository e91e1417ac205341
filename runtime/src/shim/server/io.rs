//! Moving bytes between the container, its log and those attached.

use super::Shim;
use crate::shim::log::Stream;
use crate::shim::streams::{self, CHUNK, Chunk};

impl Shim {
    /// One chunk, so that a flood of output does not starve requests.
    pub(super) fn read_source(&mut self, index: usize) {
        let mut buffer = [0; CHUNK];
        self.read_chunk(index, &mut buffer);
    }

    /// Returns whether there may be more.
    fn read_chunk(&mut self, index: usize, buffer: &mut [u8]) -> bool {
        let Some(source) = self.sources.get(index) else { return false };
        let stream = source.stream;
        match streams::read(&source.fd, buffer) {
            Chunk::Data(count) => {
                self.pass_on(stream, &buffer[..count]);
                true
            }
            Chunk::Nothing => false,
            Chunk::End => {
                self.ended_sources.push(index);
                false
            }
        }
    }

    fn pass_on(&mut self, stream: Stream, data: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(stream, data);
        }
        for attached in &mut self.attached {
            attached.push(stream, data);
        }
    }

    /// Indexes are stable while ready descriptors are handled, so sources go only at the end of a round.
    pub(super) fn remove_ended_sources(&mut self) {
        let mut ended = std::mem::take(&mut self.ended_sources);
        ended.sort_unstable();
        ended.dedup();
        for index in ended.into_iter().rev() {
            let source = self.sources.remove(index);
            if let Some(log) = &mut self.log {
                log.finish(source.stream);
            }
            for attached in &mut self.attached {
                attached.close_when_idle(source.stream);
            }
        }
    }

    /// Init is gone: takes what the pipes still hold and closes them. Bounded, since a process that escaped into
    /// the background could write for ever.
    pub(super) fn drain_sources(&mut self) {
        const ROUNDS: usize = 4096;
        let mut buffer = [0; CHUNK];
        for index in 0..self.sources.len() {
            for _ in 0..ROUNDS {
                if !self.read_chunk(index, &mut buffer) {
                    break;
                }
            }
        }
        self.ended_sources = (0..self.sources.len()).collect();
        self.remove_ended_sources();
        self.stdin = None;
        self.terminal = None;
        for attached in &mut self.attached {
            attached.stdin = None;
        }
    }

    pub(super) fn flush_stdin(&mut self) {
        if self.stdin.as_mut().is_some_and(|stdin| stdin.flush().is_err()) {
            self.stdin = None;
        }
        if self.close_stdin_when_idle && self.stdin.as_ref().is_none_or(streams::Sink::is_idle) {
            self.stdin = None;
        }
    }

    pub(super) fn read_attached(&mut self, index: usize) {
        let mut buffer = [0; CHUNK];
        let Some(fd) = self.attached.get(index).and_then(|attached| attached.stdin.as_ref()) else { return };
        match streams::read(fd, &mut buffer) {
            Chunk::Data(count) => {
                if let Some(stdin) = &mut self.stdin
                    && stdin.push(&buffer[..count]).is_err()
                {
                    self.stdin = None;
                }
            }
            Chunk::Nothing => {}
            Chunk::End => {
                self.attached[index].stdin = None;
                if self.launch.stdin_once && !self.launch.tty {
                    self.close_stdin();
                }
            }
        }
    }

    /// Closes the container's input once everything given has gone in.
    pub(super) fn close_stdin(&mut self) {
        self.close_stdin_when_idle = true;
        self.flush_stdin();
    }

    pub(super) fn flush_attached(&mut self, index: usize, stream: Stream) {
        let Some(attached) = self.attached.get_mut(index) else { return };
        // Nothing was waiting to be written, so what happened is that the reader left.
        if attached.sink(stream).as_ref().is_some_and(streams::Sink::is_idle) {
            *attached.sink(stream) = None;
        }
        attached.flush(stream);
    }
}
