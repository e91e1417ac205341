//! The container's output on its way to the log and to whoever is attached, and input on its way in.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::log::Stream;

/// Output waiting for a slow reader; beyond this the container's output is not read on, as with a terminal.
const HIGH_WATER: usize = 256 * 1024;
pub const CHUNK: usize = 16 * 1024;

/// A non-blocking descriptor and what it has not taken yet.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    pending: Vec<u8>,
}

impl Sink {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        crate::sys::set_nonblocking(&fd)?;
        Ok(Sink { fd, pending: Vec::new() })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes data; an error means that the reader is gone.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(data);
        self.flush()
    }

    pub fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.pending.len() {
            match rustix::io::write(&self.fd, &self.pending[written..]) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.pending.drain(..written);
        if self.pending.is_empty() && self.pending.capacity() > CHUNK {
            self.pending = Vec::new();
        }
        Ok(())
    }
}

/// A client of the container's own streams.
#[derive(Debug)]
pub struct Attached {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<Sink>,
    pub stderr: Option<Sink>,
    /// Streams that ended: their sinks go when they have taken everything.
    ended: Vec<Stream>,
}

impl Attached {
    pub fn new(stdin: Option<OwnedFd>, stdout: Option<Sink>, stderr: Option<Sink>) -> Self {
        Attached { stdin, stdout, stderr, ended: Vec::new() }
    }

    /// The stream has ended; what is pending still goes out.
    pub fn close_when_idle(&mut self, stream: Stream) {
        self.ended.push(stream);
        self.flush(stream);
    }

    pub fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    pub fn is_gone(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }

    pub fn is_congested(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().any(|sink| sink.pending.len() > HIGH_WATER)
    }

    /// Passes output on; a reader that left is forgotten.
    pub fn push(&mut self, stream: Stream, data: &[u8]) {
        let sink = self.sink(stream);
        if sink.as_mut().is_some_and(|sink| sink.push(data).is_err()) {
            *sink = None;
        }
    }

    pub fn flush(&mut self, stream: Stream) {
        let ended = self.ended.contains(&stream);
        let sink = self.sink(stream);
        if sink.as_mut().is_some_and(|sink| sink.flush().is_err() || (ended && sink.is_idle())) {
            *sink = None;
        }
    }
}

/// One of the container's output streams.
#[derive(Debug)]
pub struct Source {
    pub fd: OwnedFd,
    pub stream: Stream,
}

/// What one read brought.
#[derive(Debug)]
pub enum Chunk {
    Data(usize),
    Nothing,
    End,
}

/// Reads without blocking. A terminal whose last process left gives an error, which is its end.
pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Chunk {
    loop {
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => return Chunk::End,
            Ok(count) => return Chunk::Data(count),
            Err(rustix::io::Errno::AGAIN) => return Chunk::Nothing,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Chunk::End,
        }
    }
}
