//! Creating the container's init with libcontainer, in a process that exits afterwards.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use super::diagnostics::Diagnostics;
use super::launch::{Kind, Launch, Process};
use super::protocol::Failure;
use crate::sys::{self, Forked};

/// libcontainer's own state, below the container's directory.
const STATE_DIRECTORY: &str = "libcontainer";

/// Less than a pipe holds, so that the creator never waits for a reader.
const MAX_REPORT: usize = 32 * 1024;

/// Descriptors for the init process; none with a terminal.
#[derive(Debug)]
pub struct Stdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// An init that waits for [`Created::start`].
#[derive(Debug)]
pub struct Created {
    pub pid: i32,
    /// Says why the program could not be executed; ends without a word when it was.
    failure: File,
}

impl Created {
    /// Lets init go on to the program, and waits until it is that program.
    pub fn start(mut self, directory: &Path, id: &str) -> Result<(), Failure> {
        let state = directory.join(STATE_DIRECTORY).join(id);
        NotifySocket::new(state.join(NOTIFY_FILE))
            .notify_container_start()
            .map_err(|error| io::Error::other(error.to_string()))?;
        read_failure(&mut self.failure)
    }
}

/// Reads the failure a child reports before it execs.
pub fn read_failure(pipe: &mut File) -> Result<(), Failure> {
    let mut report = Vec::new();
    pipe.read_to_end(&mut report)?;
    if report.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_slice(&report).map_err(io::Error::other)?)
}

/// Writes a failure for [`read_failure`].
pub fn write_failure(pipe: RawFd, failure: &Failure) {
    let text = serde_json::to_vec(failure).unwrap_or_default();
    // SAFETY: the pipe is open in this process until it exits, which it does next.
    let pipe = unsafe { std::os::fd::BorrowedFd::borrow_raw(pipe) };
    // There is nobody else to tell.
    let _lost = rustix::io::write(pipe, &text);
}

/// Creates the container. The calling process becomes the parent of its init.
pub fn create(
    directory: &Path,
    launch: &Launch,
    stdio: Option<Stdio>,
    console: Option<&Path>,
    filter: Option<Vec<u8>>,
) -> Result<Created, Failure> {
    let (failure_read, failure_write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (report_read, report_write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    // SAFETY: the shim has a single thread.
    let creator = match unsafe { sys::fork(false) }? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            let payload = Payload {
                process: Rc::new(launch.process.clone()),
                filter: filter.map(Rc::new),
                failure: failure_write.as_raw_fd(),
                kind: launch.kind,
            };
            let outcome = build(directory, launch, stdio, console, payload);
            let outcome = outcome.map_err(|mut failure: Failure| {
                failure.message = failure.message.chars().take(MAX_REPORT / 8).collect();
                failure
            });
            let text = serde_json::to_vec(&outcome).unwrap_or_default();
            let written = File::from(report_write).write_all(&text);
            sys::exit_now(i32::from(written.is_err()))
        }
    };
    drop((failure_write, report_write, stdio));
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(creator), None).map_err(io::Error::from)?;
    // Not to the end: init has inherited the other side. All is there, since the creator has exited.
    sys::set_nonblocking(&report_read)?;
    let mut report = vec![0; MAX_REPORT];
    let length = rustix::io::read(&report_read, &mut report).unwrap_or(0);
    report.truncate(length);
    let pid: Result<i32, Failure> = serde_json::from_slice(&report).map_err(|_| Failure {
        message: "the process that creates the container died".to_owned(),
        exit_code: Some(128),
    })?;
    Ok(Created { pid: pid?, failure: File::from(failure_read) })
}

/// In the creator: returns init's pid.
fn build(
    directory: &Path,
    launch: &Launch,
    stdio: Option<Stdio>,
    console: Option<&Path>,
    payload: Payload,
) -> Result<i32, Failure> {
    set_oom_score(launch.process.oom_score_adj.unwrap_or(0));
    let mut diagnostics = Diagnostics::new()?;
    diagnostics.collect()?;
    if let Some(users) = &launch.users {
        super::stage::enter(directory, users)?;
    }
    let build = || -> Result<i32, LibcontainerError> {
        let mut builder = ContainerBuilder::new(launch.id.clone(), SyscallType::Linux)
            .with_executor(payload)
            .with_root_path(directory.join(STATE_DIRECTORY))?
            .with_console_socket(console);
        if let Some(stdio) = stdio {
            builder = builder.with_stdin(stdio.stdin).with_stdout(stdio.stdout).with_stderr(stdio.stderr);
        }
        let container =
            builder.as_init(directory).with_systemd(false).with_detach(true).as_sibling(true).build()?;
        Ok(container.pid().map_or(-1, |pid| pid.as_raw()))
    };
    build().map_err(|error| {
        let message = diagnostics.first().unwrap_or_else(|| chain(&error));
        Failure { message, exit_code: Some(128) }
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Children inherit it. A lower score than our own needs a capability that nested hosts lack: then the nearest
/// allowed value, which is our own, stays.
pub fn set_oom_score(score: i32) {
    let _clamped = std::fs::write("/proc/self/oom_score_adj", score.to_string());
}

/// What init does instead of libcontainer's own exec.
#[derive(Clone)]
struct Payload {
    process: Rc<Process>,
    filter: Option<Rc<Vec<u8>>>,
    failure: RawFd,
    kind: Kind,
}

impl Executor for Payload {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        if self.kind == Kind::Pause {
            return Err(self.pause());
        }
        let failure = super::finish::become_program(&self.process, self.filter.as_deref().map(Vec::as_slice));
        write_failure(self.failure, &failure);
        sys::exit_now(failure.exit_code.unwrap_or(128))
    }

    /// The program is looked up when it is executed, as the user who executes it.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The environment is passed to execve.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> Result<(), libcontainer::workload::ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Payload {
    fn pause(&self) -> ExecutorError {
        if let Err(failure) = super::finish::confine(&self.process) {
            write_failure(self.failure, &failure);
            sys::exit_now(128);
        }
        // SAFETY: this process never returns to code that could own a descriptor.
        match unsafe { sys::close_range(3, u32::MAX) } {
            Ok(()) => super::pause::run(),
            Err(error) => ExecutorError::Other(error.to_string()),
        }
    }
}
