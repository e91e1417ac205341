//! Running one more process in a container. libcontainer's own exec loses seccomp, limits and the user namespace.
//!
//! ```text
//! shim -- forks --> helper: joins cgroups and namespaces
//!   ^                  `-- clones with CLONE_PARENT --> the process (a child of the shim, in the pid namespace)
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};

use super::create::{read_failure, set_oom_score, write_failure};
use super::launch::Process;
use super::protocol::Failure;
use crate::sys::{self, Forked};

/// Where to run.
#[derive(Debug)]
pub struct Target<'a> {
    /// Of the container's init.
    pub pidfd: &'a OwnedFd,
    pub cgroups: &'a [PathBuf],
    pub user_namespace: bool,
}

/// What the process gets as its standard descriptors; `None` becomes /dev/null.
#[derive(Debug)]
pub enum Stdio {
    Terminal(OwnedFd),
    Files { stdin: Option<OwnedFd>, stdout: Option<OwnedFd>, stderr: Option<OwnedFd> },
}

/// Starts the process and waits until it is the program; returns its pid. It becomes our child.
pub fn exec(
    target: &Target<'_>,
    process: &Process,
    filter: Option<&[u8]>,
    stdio: Stdio,
) -> Result<i32, Failure> {
    let (failure_read, failure_write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let (pid_read, pid_write) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    // SAFETY: the shim has a single thread.
    let helper = match unsafe { sys::fork(false) }? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            let failure = match enter(target, process, &pid_write) {
                Ok(Forked::Parent(_)) => sys::exit_now(0),
                Ok(Forked::Child) => match attach_stdio(stdio) {
                    Ok(()) => super::finish::become_program(process, filter),
                    Err(error) => error.into(),
                },
                Err(failure) => failure,
            };
            write_failure(failure_write.as_raw_fd(), &failure);
            sys::exit_now(failure.exit_code.unwrap_or(128))
        }
    };
    drop((failure_write, pid_write, stdio));
    let mut pid = [0; 4];
    let read = File::from(pid_read).read_exact(&mut pid);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(helper), None).map_err(io::Error::from)?;
    read_failure(&mut File::from(failure_read))?;
    read.map_err(|_| io::Error::other("the process that enters the container died"))?;
    Ok(i32::from_ne_bytes(pid))
}

/// In the helper: joins everything, then clones; returns twice.
fn enter(target: &Target<'_>, process: &Process, pid_pipe: &OwnedFd) -> Result<Forked, Failure> {
    // From the moment we are in the container's namespaces its root could look at us.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(io::Error::from)?;
    set_oom_score(process.oom_score_adj.unwrap_or(0));
    if let Some(profile) = &process.apparmor {
        std::fs::write("/proc/thread-self/attr/apparmor/exec", format!("exec {profile}"))?;
    }
    for cgroup in target.cgroups {
        std::fs::write(cgroup.join("cgroup.procs"), "0")
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", cgroup.display())))?;
    }
    let mut namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if target.user_namespace {
        namespaces |= libc::CLONE_NEWUSER;
    }
    sys::setns(target.pidfd.as_fd(), namespaces)?;
    if target.user_namespace {
        // Root of the namespace, as the container's own init was.
        let root = rustix::process::Uid::ROOT;
        rustix::thread::set_thread_res_gid(
            rustix::process::Gid::ROOT,
            rustix::process::Gid::ROOT,
            rustix::process::Gid::ROOT,
        )
        .map_err(io::Error::from)?;
        rustix::thread::set_thread_res_uid(root, root, root).map_err(io::Error::from)?;
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(io::Error::from)?;
    }
    // SAFETY: the helper is a fork of a single-threaded process.
    let forked = unsafe { sys::fork(true) }?;
    if let Forked::Parent(pid) = forked {
        File::from(pid_pipe.try_clone()?).write_all(&pid.to_ne_bytes())?;
    }
    Ok(forked)
}

/// In the process: its standard descriptors; everything else closes at exec.
fn attach_stdio(stdio: Stdio) -> io::Result<()> {
    rustix::process::setsid()?;
    match stdio {
        Stdio::Terminal(terminal) => {
            sys::set_controlling_terminal(terminal.as_fd())?;
            for standard in 0..=2 {
                sys::replace_fd(terminal.as_fd(), standard)?;
            }
        }
        Stdio::Files { stdin, stdout, stderr } => {
            // The shim's own standard descriptors are /dev/null, which is what a missing one shall be.
            for (file, standard) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
                if let Some(file) = file {
                    sys::replace_fd(file.as_fd(), standard)?;
                }
            }
        }
    }
    sys::cloexec_from(3)
}
