//! Processes that were killed and are not gone yet: what they hold is theirs until the kernel has taken it back.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long the kernel may take to clear away a process.
const PATIENCE: Duration = Duration::from_secs(10);

/// In the flags of proc_pid_stat(5): it is being shut down, or a signal has killed it.
const EXITING: u64 = 0x4;
const SIGNALED: u64 = 0x400;
/// SIGKILL in the masks of proc_pid_status(5).
const KILL: u64 = 1 << 8;

/// Waits for the process if it is on its way out; whether it is gone.
pub fn outlast(pid: u32) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return true };
    let Ok(handle) = pidfd_open(number, PidfdFlags::empty()) else { return true };
    if !is_ending(pid) {
        return false;
    }
    let mut watched = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    poll(&mut watched, timeout).is_ok_and(|ready| ready > 0)
}

fn is_ending(pid: u32) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    // Nothing to read: it went just now.
    let (Ok(stat), Ok(status)) = (read("stat"), read("status")) else { return true };
    stat_tells_end(&stat) || is_about_to_be_killed(&status)
}

fn stat_tells_end(stat: &str) -> bool {
    // The name of the process stands in brackets and may hold anything.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let flags: u64 = fields.get(6).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    matches!(fields.first(), Some(&("Z" | "X"))) || flags & (EXITING | SIGNALED) != 0
}

fn is_about_to_be_killed(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| {
        let (name, mask) = line.split_once(':')?;
        matches!(name, "SigPnd" | "ShdPnd").then(|| u64::from_str_radix(mask.trim(), 16).unwrap_or(0))
    });
    masks.fold(0, |all, mask| all | mask) & KILL != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_process_is_waited_for_and_a_living_one_is_not() {
        assert!(!outlast(std::process::id()));
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("starts");
        assert!(!outlast(child.id()));
        child.kill().expect("is killed");
        assert!(outlast(child.id()));
        child.wait().expect("is reaped");
        assert!(outlast(child.id()), "it is not there any more");
    }

    #[test]
    fn what_the_kernel_says_of_dying_processes_is_understood() {
        let stat = |state: &str, flags: u64| format!("7 (a) b) {state} 1 1 1 0 -1 {flags} 0 0");
        assert!(stat_tells_end(&stat("Z", 0)));
        assert!(stat_tells_end(&stat("R", 0x40_0404)));
        assert!(!stat_tells_end(&stat("S", 0x40_0000)));
        assert!(is_about_to_be_killed("Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(!is_about_to_be_killed("SigPnd:\t0000000000000001\nShdPnd:\t0000000000004000\n"));
    }
}
