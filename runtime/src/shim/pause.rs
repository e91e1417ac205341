//! Process 1 of a pod that shares its process namespace: holds the namespace and reaps orphans.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// Runs until SIGTERM or SIGINT. Has no capabilities, sees an empty root, and holds no descriptor but /dev/null.
pub fn run() -> ! {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    // Blocked signals stay pending until `wait` takes them, so none is lost between two rounds.
    if signals.thread_set_mask().is_err() {
        crate::sys::exit_now(1);
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => crate::sys::exit_now(0),
            Err(Errno::EINTR) => {}
            Err(_) => crate::sys::exit_now(1),
        }
    }
}

fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
