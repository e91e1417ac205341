//! The few kernel calls that no crate here wraps, and small facts about processes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, PidfdFlags};

/// A copy of the mount below `path` that hangs nowhere and, with `recursive`, has all submounts.
pub fn detached_mount(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(rustix::fs::CWD, path, flags)?)
}

/// Attributes for [`set_mount_attributes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes<'a> {
    pub set: u64,
    pub propagation: u64,
    /// A user namespace whose mappings the mount shall use.
    pub idmap: Option<BorrowedFd<'a>>,
    pub recursive: bool,
}

/// mount_setattr(2) on the mount `mount` refers to.
pub fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.set | attributes.idmap.map_or(0, |_| libc::MOUNT_ATTR_IDMAP),
        attr_clr: 0,
        propagation: attributes.propagation,
        userns_fd: attributes.idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let recursive = if attributes.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, `attr` lives over the call and its true size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map(drop)
}

/// Turns the kernel's -1 into an error.
pub fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Which process a raw clone returned in.
#[derive(Debug)]
pub enum Forked {
    Parent(i32),
    Child,
}

/// Forks; with `sibling` the child's parent is our parent.
///
/// # Safety
/// The calling process must have a single thread: the child goes on to run ordinary Rust code.
pub unsafe fn fork(sibling: bool) -> io::Result<Forked> {
    let flags = libc::SIGCHLD | if sibling { libc::CLONE_PARENT } else { 0 };
    // SAFETY: no memory is shared (no CLONE_VM) and the stack pointer of 0 keeps the copied stack, as fork does.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    match check(result)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid as i32)),
    }
}

/// Ends the process without running destructors or exit handlers, as forked children must.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

pub fn pid(raw: i32) -> io::Result<Pid> {
    Pid::from_raw(raw).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

pub fn pidfd_open(raw: i32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(pid(raw)?, PidfdFlags::empty())?)
}

/// Sends a signal by number, so that real-time signals work too.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed, and the descriptor is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result).map(drop)
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: only changes flags of descriptors, closes none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result).map(drop)
}

/// Closes every descriptor from `first` to `last`.
///
/// # Safety
/// Nothing may own a descriptor of that range afterwards.
pub unsafe fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the caller vouches that nobody owns these.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Joins the namespaces of `flags` of the process behind `pidfd` (or the one an nsfs file is).
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: plain system call on a borrowed descriptor.
    check(libc::c_long::from(unsafe { libc::setns(fd.as_raw_fd(), flags) })).map(drop)
}

/// The other end of a pseudo terminal's master, opened without looking at any path.
pub fn pty_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock) }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and returns a new descriptor, which nobody else owns.
    let fd = check(libc::c_long::from(unsafe { libc::ioctl(master.as_raw_fd(), TIOCGPTPEER, flags) }))?;
    // SAFETY: the descriptor was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// `_IO('T', 0x41)`; the libc crate has it not for every target.
const TIOCGPTPEER: libc::Ioctl = 0x5441;

/// Makes `terminal` the controlling terminal of this session.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an int by value.
    check(libc::c_long::from(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })).map(drop)
}

/// Opens a path below `root` as if `root` were `/`: links cannot lead out.
pub fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut how: libc::open_how =
        // SAFETY: open_how is plain integers; all-zero is its documented default.
        unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: `path` and `how` live over the call and the true size is passed.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &how, size_of::<libc::open_how>())
    })?;
    // SAFETY: the descriptor was just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Replaces fd `target` with a copy of `source` that survives exec.
pub fn replace_fd(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // dup2 onto itself would keep close-on-exec.
    if source.as_raw_fd() == target {
        // SAFETY: clears the flags of a descriptor we were lent.
        return check(libc::c_long::from(unsafe { libc::fcntl(target, libc::F_SETFD, 0) })).map(drop);
    }
    // SAFETY: only used for the standard descriptors, which no Rust object owns.
    check(libc::c_long::from(unsafe { libc::dup2(source.as_raw_fd(), target) })).map(drop)
}

pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Hands a descriptor to tokio.
pub fn watch(fd: OwnedFd, interest: tokio::io::Interest) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps the same descriptor open until it is dropped, which AsyncFd does after it let go.
    Ok(unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, interest) }?)
}

/// Identifies this boot of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Start time of a process in clock ticks since boot: with the pid and the boot id it names a process for ever.
/// `None` where there is no such process, or only its zombie.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets; fields count from behind it.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Now, as CRI counts.
pub fn now_nanos() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Writes a file so that a reader sees the old or the new content, never a part. Not synced: after a crash of the
/// machine it may be empty or missing.
pub fn write_replacing(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_| Ok(()))
}

/// Writes a file so that after a crash there is the old or the new content, never a part.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, std::fs::File::sync_data)?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes beside the file, and puts the new one in its place once it is `settled`.
fn replace(
    path: &Path,
    content: &[u8],
    settled: impl FnOnce(&std::fs::File) -> io::Result<()>,
) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file =
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    settled(&file)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_a_start_time_and_a_missing_one_has_none() {
        assert!(start_time(std::process::id() as i32).is_some());
        assert_eq!(start_time(i32::MAX - 1), None);
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::os::unix::fs::symlink("/etc", directory.path().join("out")).expect("a link");
        let root = std::fs::File::open(directory.path()).expect("the root opens");
        let escaped =
            open_beneath(root.as_fd(), Path::new("out/passwd"), libc::O_RDONLY, libc::RESOLVE_IN_ROOT);
        assert_eq!(escaped.expect_err("no such file inside").kind(), io::ErrorKind::NotFound);
    }
}
