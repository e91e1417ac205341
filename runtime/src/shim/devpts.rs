//! Terminals for execs, made in the container's own devpts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Magic number of a devpts file system.
const DEVPTS: i64 = 0x1cd1;

/// Opens a new terminal of the container whose init is `init`; returns its master and its other end.
pub fn open_terminal(init: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let root = File::open(format!("/proc/{init}/root"))?;
    // The container owns its /dev: links in it must not lead us to a device of the host.
    let master = crate::sys::open_beneath(
        root.as_fd(),
        Path::new("dev/pts/ptmx"),
        libc::O_RDWR | libc::O_NOCTTY | libc::O_NOFOLLOW,
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
    )?;
    let file_system = rustix::fs::fstatfs(&master)?;
    let device = rustix::fs::fstat(&master)?.st_rdev;
    if file_system.f_type != DEVPTS || device != rustix::fs::makedev(5, 2) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the container's /dev/pts/ptmx is no terminal",
        ));
    }
    let peer = crate::sys::pty_peer(master.as_fd())?;
    Ok((master, peer))
}
