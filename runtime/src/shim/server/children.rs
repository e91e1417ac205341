//! Ends: of init, of execs, and of orphans that were re-parented to the shim.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::Shim;
use crate::shim::protocol::{self, Answer, Event, Exit};

/// How often a cgroup without cgroup.kill is swept for processes that were forked meanwhile.
const SWEEPS: usize = 16;

impl Shim {
    pub(super) fn reap(&mut self) -> io::Result<()> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => self.ended(pid.as_raw(), code, 0)?,
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.ended(pid.as_raw(), 128 + signal as i32, signal as i32)?;
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&mut self, pid: i32, exit_code: i32, signal: i32) -> io::Result<()> {
        if self.init.as_ref().is_some_and(|init| init.pid == pid) && self.exit.is_none() {
            return self.init_ended(exit_code, signal);
        }
        let Some(process) = self.execs.iter_mut().find(|e| e.pid == pid && e.exit_code.is_none()) else {
            // An orphan of the container's, or a helper.
            return Ok(());
        };
        process.exit_code = Some(exit_code);
        let exec = process.exec.clone();
        self.announce(&Event::ExecExited { exec, exit_code });
        Ok(())
    }

    fn init_ended(&mut self, exit_code: i32, signal: i32) -> io::Result<()> {
        if self.launch.shared_pid_namespace {
            self.kill_cgroup();
        }
        self.drain_sources();
        let oom_killed = self.launch.oom_events.as_deref().is_some_and(was_oom_killed);
        let finished_at = crate::sys::now_nanos();
        let exit = Exit { exit_code, signal, finished_at, oom_killed, start_error: None };
        // On disk before anybody hears of it, so that nobody who heard can find it gone later. A full disk must
        // not hide the end from those who are connected.
        let written = serde_json::to_vec(&exit)
            .map_err(io::Error::from)
            .and_then(|text| crate::sys::write_atomically(&self.directory.join(protocol::EXIT_FILE), &text));
        self.exit = Some(exit.clone());
        self.announce(&Event::Exited(exit));
        if let Some((connection, id)) = self.deleting {
            self.reply(connection, id, Ok(Answer::Done), None);
            self.leaving = true;
        }
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            // The directory is gone: the container was destroyed, and nobody will come back for us.
            Err(error) => Err(error),
        }
    }

    /// Kills everything in the container's cgroup, the processes that fork while we do it too.
    pub(super) fn kill_cgroup(&self) {
        for cgroup in &self.launch.cgroups {
            if std::fs::write(cgroup.join("cgroup.kill"), "1").is_ok() {
                return;
            }
        }
        let Some(cgroup) = self.launch.cgroups.first() else { return };
        for _ in 0..SWEEPS {
            if kill_members(cgroup) == 0 {
                return;
            }
        }
    }

    pub(super) fn kill_init(&self, signal: i32) -> io::Result<()> {
        match &self.init {
            Some(init) if self.exit.is_none() => crate::sys::pidfd_signal(init.pidfd.as_fd(), signal),
            _ => Ok(()),
        }
    }
}

/// Returns how many there were.
fn kill_members(cgroup: &Path) -> usize {
    let members = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let pids = members.lines().filter_map(|line| line.parse().ok());
    pids.filter(|pid| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL).is_ok()
    })
    .count()
}

/// `oom_kill N` is in v1's memory.oom_control and in v2's memory.events.
fn was_oom_killed(events: &Path) -> bool {
    std::fs::read_to_string(events)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0")
}
