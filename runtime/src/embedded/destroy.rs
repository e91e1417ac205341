//! Removing a runtime without a trace, whatever state its files are in.

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

use super::config::Config;
use super::error::{blocking_cri, failed};
use super::state::entries;
use crate::cgroup::Cgroups;
use crate::cri::Result;
use crate::shim::protocol::{self, ShimFile};

/// Kills every process of this runtime, shims included, then removes its mounts, cgroups and files.
pub async fn destroy(config: Config) -> Result<()> {
    blocking_cri("destroy the runtime", move || destroy_all(&config)).await
}

fn destroy_all(config: &Config) -> Result<()> {
    let cgroups = Cgroups::detect(&config.cgroup_prefix).map_err(failed("find cgroups"))?;
    kill_shims(config).map_err(failed("end the shims"))?;
    // All of ours are below the prefix, pods' and the shims' own.
    cgroups.remove("/").map_err(failed("remove cgroups"))?;
    for directory in [&config.root, &config.state] {
        unmount_below(directory).map_err(failed(format!("unmount below {}", directory.display())))?;
    }
    for directory in [&config.root, &config.state] {
        match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(format!("remove {}", directory.display()))(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where the agent is in the root of every hierarchy its shims are in no cgroup of ours, so they are ended one by
/// one: before the containers, so that none reports to files that are being removed.
fn kill_shims(config: &Config) -> io::Result<()> {
    let boot_id = crate::sys::boot_id()?;
    for parent in ["containers", "sandboxes"] {
        let directories = match entries(&config.root.join(parent)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for directory in directories {
            let Some(shim) = protocol::read_file::<ShimFile>(&directory, protocol::SHIM_FILE) else {
                continue;
            };
            if shim.boot_id != boot_id {
                continue;
            }
            for process in [Some(shim.shim), shim.init].into_iter().flatten() {
                kill(process)?;
            }
        }
    }
    Ok(())
}

fn kill(process: protocol::ProcessId) -> io::Result<()> {
    use std::os::fd::AsFd;
    let Ok(pidfd) = crate::sys::pidfd_open(process.pid) else { return Ok(()) };
    // Looked at again behind the descriptor: now the pid cannot become another's.
    if !process.is_alive() {
        return Ok(());
    }
    match crate::sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
        _ => {}
    }
    let mut descriptors = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    rustix::event::poll(&mut descriptors, Some(&patience))?;
    Ok(())
}

/// Deepest first, as many times as something is mounted there.
fn unmount_below(directory: &Path) -> io::Result<()> {
    let Ok(directory) = directory.canonicalize() else { return Ok(()) };
    let mut targets = mounts_below(&std::fs::read_to_string("/proc/self/mountinfo")?, &directory);
    targets.sort_by_key(|target| std::cmp::Reverse(target.components().count()));
    for target in targets {
        match rustix::mount::unmount(&target, UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn mounts_below(mountinfo: &str, directory: &Path) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|target| PathBuf::from(unescape(target)))
        .filter(|target| target.starts_with(directory))
        .collect()
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_are_found_by_their_plain_name() {
        let text = "1 0 0:1 / /a\\040b/c rw - tmpfs t rw\n2 0 0:1 / /a\\040bc rw - tmpfs t rw\n";
        assert_eq!(mounts_below(text, Path::new("/a b")), [PathBuf::from("/a b/c")]);
    }
}
