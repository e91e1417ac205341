//! A user namespace and the namespaces that it owns. A process with several threads cannot enter a new one, so a child
//! is born in it, and does nothing but hold it until it is pinned.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::thread::UnshareFlags;

use crate::cri::IdMapping;
use crate::sys;

/// Ends with its owner, also when that is killed.
#[derive(Debug)]
pub struct Holder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Makes a user namespace with these ids and, owned by it, the namespaces of `flags`. The thread that calls must
    /// outlive the holder.
    pub fn new(flags: UnshareFlags, ids: IdMapping) -> io::Result<Self> {
        let parent = std::process::id() as i32;
        let mut pidfd: libc::c_int = -1;
        // SAFETY: clone_args is plain integers for which zeroes are valid.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = u64::from(flags.bits()) | (libc::CLONE_NEWUSER | libc::CLONE_PIDFD) as u64;
        arguments.pidfd = &raw mut pidfd as u64;
        arguments.exit_signal = libc::SIGCHLD as u64;
        // SAFETY: `arguments` and `pidfd` live over the call. The child has a copy of the memory and of this thread
        // alone, and makes nothing but system calls: it cannot meet a lock that another thread held.
        let pid = sys::check(unsafe {
            libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>())
        })?;
        if pid == 0 {
            hold(parent);
        }
        // SAFETY: the kernel has just made the descriptor for us.
        let holder = Holder { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } };
        let map = format!("0 {} {}\n", ids.host_id, ids.length);
        for kind in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{kind}"), &map)
                .map_err(|error| io::Error::new(error.kind(), format!("write {kind}: {error}")))?;
        }
        Ok(holder)
    }

    /// Moves the calling thread into the namespaces of `flags`; it stays in its user namespace.
    pub fn enter(&self, flags: UnshareFlags) -> io::Result<()> {
        if flags.is_empty() {
            return Ok(());
        }
        sys::setns(self.pidfd.as_fd(), flags.bits() as i32)
    }

    /// The namespace's file, as long as the holder lives.
    pub fn user_namespace(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/user", self.pid))
    }

    /// Whether files of `directory` can be shown with other owners, which its file system and the kernel decide.
    pub fn can_map(&self, directory: BorrowedFd<'_>) -> io::Result<()> {
        let users = std::fs::File::open(self.user_namespace())?;
        sys::set_mount_attributes(
            directory,
            sys::MountAttributes { idmap: Some(users.as_fd()), ..Default::default() },
        )
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It cannot have ended, but where it had, the rest does no harm.
        let _ended = sys::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _reaped = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
    }
}

/// In the child.
fn hold(parent: i32) -> ! {
    // SAFETY: system calls without pointers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // Otherwise the parent died before we asked to hear of it.
        while libc::getppid() == parent {
            libc::pause();
        }
    }
    sys::exit_now(0)
}
