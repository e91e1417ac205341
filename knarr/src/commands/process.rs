//! Other processes: ending a server, and naming who holds a port.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::AsFd;

/// A server drains for at most 20 seconds by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks a process to end and waits until it has; kills it when it does not.
pub fn end(pid: u32) -> anyhow::Result<()> {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        bail!("{pid} is no process id")
    };
    let handle = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("opening process {pid}")),
    };
    for (signal, patience) in [(Signal::TERM, PATIENCE), (Signal::KILL, Duration::from_secs(5))] {
        match pidfd_send_signal(&handle, signal) {
            Ok(()) => {}
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("signalling process {pid}")),
        }
        let mut watched = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).context("a timeout")?;
        if poll(&mut watched, timeout).with_context(|| format!("waiting for process {pid}"))? > 0 {
            return Ok(());
        }
    }
    bail!("process {pid} does not end, not even when killed: it waits for the kernel (see /proc/{pid}/stack)")
}

/// Fails where a TCP port is taken, and names the process that has it.
pub fn check_port_is_free(port: u16, flag: &str) -> anyhow::Result<()> {
    match std::net::TcpListener::bind(("0.0.0.0", port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let holder =
                listener(port).map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"));
            bail!("port {port} is in use by {holder}: pass {flag}")
        }
        Err(error) => Err(error).with_context(|| format!("port {port}: pass {flag}")),
    }
}

/// The process that listens on a port, as the kernel's tables tell.
fn listener(port: u16) -> Option<u32> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == LISTEN;
        listens.then(|| fields.get(9).map(ToString::to_string))?
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let mut open = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
            .then_some(pid)
    })
}

/// The end of a log, to show why a server did not start.
pub fn last_lines(file: &Path, count: usize) -> String {
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text));
    if read.is_err() {
        return String::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_reported_with_its_holder_and_the_flag() {
        let taken = std::net::TcpListener::bind("0.0.0.0:0").expect("binds");
        let port = taken.local_addr().expect("address").port();
        let error = check_port_is_free(port, "--api-port").expect_err("taken").to_string();
        assert_eq!(error, format!("port {port} is in use by pid {}: pass --api-port", std::process::id()));
        drop(taken);
        check_port_is_free(port, "--api-port").expect("free again");
    }

    #[test]
    fn ending_a_process_waits_until_it_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("starts");
        let pid = child.id();
        let reaper = std::thread::spawn(move || child.wait());
        end(pid).expect("ends");
        assert!(!reaper.join().expect("no panic").expect("waits").success());
    }
}
