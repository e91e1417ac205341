//! Starting a shim.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;

use super::state::Inner;
use crate::shim::protocol::Started;

/// A container that runs as root could write to the program its init came from, through /proc/self/exe
/// (CVE-2019-5736). So shims are executed from a mount of their own that is read-only. `None` where the kernel has
/// no such calls (before 5.12): then the program runs from its path.
pub fn protected_program(program: &Path) -> Option<OwnedFd> {
    let protect = || -> std::io::Result<OwnedFd> {
        let mount = crate::sys::detached_mount(program, false)?;
        let attributes = crate::sys::MountAttributes { set: libc::MOUNT_ATTR_RDONLY, ..Default::default() };
        crate::sys::set_mount_attributes(mount.as_fd(), attributes)?;
        Ok(mount)
    };
    protect()
        .inspect_err(|error| tracing::warn!(%error, "the shim's program cannot be protected from containers"))
        .ok()
}

/// Starts the shim of a prepared directory, and with it the container; says how that went.
pub async fn spawn(inner: &Inner, directory: &Path) -> std::io::Result<Started> {
    let program = match &inner.shim_program {
        // The child opens it before close-on-exec takes effect.
        Some(mount) => Path::new("/proc/self/fd").join(mount.as_raw_fd().to_string()),
        None => inner.config.shim_executable.clone(),
    };
    let starting = crate::shim::launch::lock(directory)?;
    let mut command = tokio::process::Command::new(program);
    command
        .arg0(&inner.config.shim_executable)
        .args(&inner.config.shim_arguments)
        .arg("--dir")
        .arg(directory)
        .env_clear()
        .stdin(Stdio::from(starting))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let mut report = Vec::new();
    if let Some(stdout) = &mut stdout {
        stdout.read_to_end(&mut report).await?;
    }
    // The child leaves as soon as the shim has detached itself.
    let status = child.wait().await?;
    if let Ok(started) = serde_json::from_slice(&report) {
        return Ok(started);
    }
    let mut complaint = String::new();
    if let Some(stderr) = &mut stderr {
        stderr.take(4096).read_to_string(&mut complaint).await?;
    }
    Err(std::io::Error::other(format!("shim did not report ({status}): {}", complaint.trim())))
}

/// Waits for a shim that a dead agent started and that has not yet said in shim.json that it is there: until then
/// nobody can tell it from one that was never started.
pub async fn settled(directory: &Path) {
    let directory = directory.to_owned();
    let locked = tokio::task::spawn_blocking(move || crate::shim::launch::lock(&directory)).await;
    // Taken and given back: the shim has said so, or died. Without the file nothing was ever started.
    drop(locked);
}
