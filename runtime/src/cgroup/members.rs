//! The processes in a cgroup, and its removal.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Error, Result};

/// Killed processes that do not go (uninterruptible sleep) are given up after this long.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Processes that fork while they are killed need another sweep.
const SWEEPS: usize = 64;

pub fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes a cgroup and all below it, with their processes.
pub fn remove_tree(directory: &Path) -> Result<()> {
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => {}
        Err(source) => return Err(Error::Io { path: directory.to_owned(), source }),
        Ok(()) => return Ok(()),
    }
    kill_tree(directory)?;
    remove_empty(directory)
}

fn remove_empty(directory: &Path) -> Result<()> {
    let error = |source| Error::Io { path: directory.to_owned(), source };
    match children(directory) {
        Ok(children) => children.iter().try_for_each(|child| remove_empty(child))?,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(error(source)),
    }
    match std::fs::remove_dir(directory) {
        Ok(()) => Ok(()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(error(source)),
    }
}

/// Kills all processes of the tree and waits for their end.
pub fn kill_tree(directory: &Path) -> Result<()> {
    for _ in 0..SWEEPS {
        let members = match members(directory) {
            Ok(members) => members,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(Error::Io { path: directory.to_owned(), source }),
        };
        if members.is_empty() {
            return Ok(());
        }
        // Version 2 kills the whole tree at once, forks in flight included.
        let killed = std::fs::write(directory.join("cgroup.kill"), "1").is_ok();
        let mut dying = Vec::with_capacity(members.len());
        for pid in members {
            let Ok(pidfd) = crate::sys::pidfd_open(pid) else { continue };
            if !killed && crate::sys::pidfd_signal(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL).is_err() {
                continue;
            }
            dying.push(pidfd);
        }
        if !wait_for(&dying) {
            return Err(Error::Busy(directory.to_owned()));
        }
    }
    Err(Error::Busy(directory.to_owned()))
}

/// Whether all ended in time.
fn wait_for(pidfds: &[OwnedFd]) -> bool {
    pidfds.iter().all(|pidfd| {
        let mut descriptors = [PollFd::new(pidfd, PollFlags::IN)];
        loop {
            match poll(&mut descriptors, Some(&PATIENCE)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(ready) => return ready > 0,
                Err(_) => return false,
            }
        }
    })
}

/// Living members; a zombie waits for its parent and no longer holds the cgroup.
fn members(directory: &Path) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    let text = std::fs::read_to_string(directory.join("cgroup.procs"))?;
    let pids = text.lines().filter_map(|line| line.parse().ok());
    found.extend(pids.filter(|pid| crate::sys::start_time(*pid).is_some()));
    for child in children(directory)? {
        match members(&child) {
            Ok(below) => found.extend(below),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
