//! Answering the agent.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::{ExecProcess, Shim};
use crate::shim::launch::Process;
use crate::shim::protocol::{self, Answer, Event, ExecState, Failure, Message, Op, Request, State};
use crate::shim::streams::{Attached, Sink};
use crate::shim::{devpts, exec, wire};

/// An answer, and a descriptor that goes with it.
type Answered = Result<(Answer, Option<OwnedFd>), Failure>;

impl Shim {
    pub(super) fn receive(&mut self, index: usize) {
        let Some(fd) = self.connections.get(index).and_then(|connection| connection.fd.as_ref()) else {
            return;
        };
        let (text, descriptors) = match wire::receive(fd) {
            Ok((text, descriptors)) if !text.is_empty() => (text, descriptors),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            _ => return self.hang_up(index),
        };
        let Ok(request) = serde_json::from_slice::<Request>(&text) else { return self.hang_up(index) };
        drop(text);
        let id = request.id;
        if matches!(request.op, Op::Delete) {
            return self.delete(index, id);
        }
        let answered = self.answer(index, request.op, descriptors);
        match answered {
            Ok((answer, descriptor)) => self.reply(index, id, Ok(answer), descriptor),
            Err(failure) => self.reply(index, id, Err(failure), None),
        }
    }

    fn hang_up(&mut self, index: usize) {
        self.connections[index].fd = None;
    }

    fn answer(&mut self, index: usize, op: Op, descriptors: Vec<OwnedFd>) -> Answered {
        let mut descriptors = descriptors.into_iter();
        let mut take = |wanted: bool| wanted.then(|| descriptors.next()).flatten();
        match op {
            Op::Hello { .. } => {
                self.connections[index].greeted = true;
                return Ok((Answer::Hello { version: protocol::VERSION }, None));
            }
            Op::State => return Ok((Answer::State(self.state()), None)),
            Op::Kill { signal, all } => {
                if all {
                    self.kill_cgroup();
                }
                self.kill_init(signal)?;
            }
            Op::Exec { exec, process, stdin, stdout, stderr } => {
                let (stdin, stdout, stderr) = (take(stdin), take(stdout), take(stderr));
                return self.exec(exec, &process, stdin, stdout, stderr);
            }
            Op::KillExec { exec, signal } => self.kill_exec(&exec, signal)?,
            Op::DeleteExec { exec } => self.execs.retain(|e| e.exec != exec || e.exit_code.is_none()),
            Op::Resize { columns, rows } => self.resize(columns, rows)?,
            Op::CloseStdin => self.close_stdin(),
            Op::Attach { stdin, stdout, stderr } => {
                let stdin = take(stdin);
                if let Some(stdin) = &stdin {
                    crate::sys::set_nonblocking(stdin)?;
                }
                let stdout = take(stdout).map(Sink::new).transpose()?;
                let stderr = take(stderr).map(Sink::new).transpose()?;
                // Of an ended container there is nothing to come: the descriptors close with this value.
                if self.exit.is_none() {
                    self.attached.push(Attached::new(stdin, stdout, stderr));
                }
            }
            Op::ReopenLog => {
                if let Some(log) = &mut self.log {
                    log.reopen()?;
                }
            }
            Op::Delete => unreachable!("answered by the caller, later"),
        }
        Ok((Answer::Done, None))
    }

    fn state(&self) -> State {
        State {
            pid: self.init.as_ref().map_or(0, |init| init.pid),
            started_at: self.init.as_ref().map_or(0, |init| init.started_at),
            exit: self.exit.clone(),
            execs: self
                .execs
                .iter()
                .map(|e| ExecState { exec: e.exec.clone(), pid: e.pid, exit_code: e.exit_code })
                .collect(),
        }
    }

    fn exec(
        &mut self,
        name: String,
        process: &Process,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> Answered {
        let Some(init) = self.init.as_ref().filter(|_| self.exit.is_none()) else {
            return Err(Failure { message: "container is not running".to_owned(), exit_code: None });
        };
        let (stdio, master) = if process.tty {
            let (master, terminal) = devpts::open_terminal(init.pid)?;
            rustix::fs::fchown(&terminal, Some(rustix::process::Uid::from_raw(process.uid)), None)
                .map_err(std::io::Error::from)?;
            (exec::Stdio::Terminal(terminal), Some(master))
        } else {
            (exec::Stdio::Files { stdin, stdout, stderr }, None)
        };
        let target = exec::Target {
            pidfd: &init.pidfd,
            cgroups: &self.launch.cgroups,
            user_namespace: self.launch.users.is_some(),
        };
        let pid = exec::exec(&target, process, self.filter.as_deref(), stdio)?;
        self.execs.push(ExecProcess { exec: name, pid, exit_code: None });
        Ok((Answer::ExecStarted { pid }, master))
    }

    fn kill_exec(&self, name: &str, signal: i32) -> std::io::Result<()> {
        match self.execs.iter().find(|e| e.exec == name && e.exit_code.is_none()) {
            // Not reaped yet, so the pid is still its own.
            Some(process) => crate::sys::pidfd_signal(crate::sys::pidfd_open(process.pid)?.as_fd(), signal),
            None => Ok(()),
        }
    }

    fn resize(&self, columns: u16, rows: u16) -> std::io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(terminal, size)?)
    }

    fn delete(&mut self, index: usize, id: u64) {
        self.kill_cgroup();
        if self.exit.is_some() || self.init.is_none() {
            self.reply(index, id, Ok(Answer::Done), None);
            self.leaving = true;
            return;
        }
        self.deleting = Some((index, id));
        if let Err(error) = self.kill_init(libc::SIGKILL) {
            self.deleting = None;
            self.reply(index, id, Err(error.into()), None);
        }
    }

    pub(super) fn reply(
        &mut self,
        index: usize,
        id: u64,
        result: Result<Answer, Failure>,
        descriptor: Option<OwnedFd>,
    ) {
        let raw: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        self.send(index, &Message::Reply { id, result }, &raw);
    }

    /// Hints: one who does not read gets cut off, and asks for the state when it connects again.
    pub(super) fn announce(&mut self, event: &Event) {
        let message = Message::Event(event.clone());
        for index in 0..self.connections.len() {
            if self.connections[index].greeted {
                self.send(index, &message, &[]);
            }
        }
    }

    fn send(&mut self, index: usize, message: &Message, descriptors: &[i32]) {
        let Some(fd) = self.connections.get(index).and_then(|connection| connection.fd.as_ref()) else {
            return;
        };
        let sent = serde_json::to_vec(message)
            .map_err(std::io::Error::from)
            .and_then(|text| wire::send(fd.as_fd(), &text, descriptors));
        if sent.is_err() {
            self.hang_up(index);
        }
    }
}
