//! Namespaces that outlive every process: made on a thread of their own and pinned by a bind mount.

mod holder;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::cri::IdMapping;
pub use holder::Holder;

/// A kind of namespace that a sandbox pins; the name is that in /proc/PID/ns and of the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Network,
    Ipc,
    Uts,
    User,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::User => "user",
        }
    }

    fn flag(self) -> UnshareFlags {
        match self {
            Kind::Network => UnshareFlags::NEWNET,
            Kind::Ipc => UnshareFlags::NEWIPC,
            Kind::Uts => UnshareFlags::NEWUTS,
            // Made by a holder, for this thread cannot enter it.
            Kind::User => UnshareFlags::empty(),
        }
    }
}

/// The namespaces of a sandbox, to be made.
pub struct Plan {
    /// Each is pinned at `<directory>/<name>`.
    pub directory: PathBuf,
    pub kinds: Vec<Kind>,
    /// Ids of a user namespace, which [`Kind::User`] pins and which owns all others.
    pub users: Option<IdMapping>,
    /// Set in a new UTS namespace.
    pub hostname: String,
    /// Each applies to whichever of the namespaces it belongs to.
    pub sysctls: Vec<(String, String)>,
}

impl Plan {
    /// Makes the namespaces and pins them. In a new network namespace the loopback is brought up.
    pub fn pin(self) -> io::Result<()> {
        // A thread of its own: it ends with namespaces that no other work should run in.
        let thread = std::thread::Builder::new().name("namespaces".to_owned());
        let handle = thread.spawn(move || make(&self))?;
        handle.join().map_err(|_| io::Error::other("the thread that makes namespaces panicked"))?
    }
}

fn make(plan: &Plan) -> io::Result<()> {
    let Plan { directory, kinds, users, hostname, sysctls } = plan;
    let flags = kinds.iter().fold(UnshareFlags::empty(), |flags, kind| flags | kind.flag());
    let holder = users.map(|ids| Holder::new(flags, ids)).transpose()?;
    match &holder {
        Some(holder) => holder.enter(flags)?,
        None if flags.is_empty() => return Ok(()),
        // SAFETY: only namespaces are left, no memory or descriptor table is.
        None => unsafe { rustix::thread::unshare_unsafe(flags) }?,
    }
    if kinds.contains(&Kind::Uts) {
        rustix::system::sethostname(hostname.as_bytes())?;
    }
    if kinds.contains(&Kind::Network) {
        loopback_up()?;
    }
    for (name, value) in sysctls {
        set_sysctl(name, value)?;
    }
    for kind in kinds {
        let pin = directory.join(kind.name());
        File::create(&pin)?;
        let made = match (&holder, kind) {
            (Some(holder), Kind::User) => holder.user_namespace(),
            _ => PathBuf::from(format!("/proc/thread-self/ns/{}", kind.name())),
        };
        rustix::mount::mount_bind(made, &pin)?;
        // Not copied into the mount namespaces of containers, where it would keep the namespace alive.
        rustix::mount::mount_change(&pin, MountPropagationFlags::PRIVATE)?;
    }
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq that lives over the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    crate::sys::check(libc::c_long::from(result)).map(drop)
}

/// `net.ipv4.ip_forward` or with slashes, where a name itself has dots.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if path.split('/').any(|element| matches!(element, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid sysctl {name:?}")));
    }
    std::fs::write(format!("/proc/sys/{path}"), value)
        .map_err(|error| io::Error::new(error.kind(), format!("sysctl {name:?}: {error}")))
}

/// Releases a pinned namespace; gone already is fine.
pub fn unpin(pin: &Path) -> io::Result<()> {
    match rustix::mount::unmount(pin, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether the pin still holds a namespace, which after a restart of the machine it does not.
pub fn is_pinned(pin: &Path) -> bool {
    const NSFS: i64 = 0x6e73_6673;
    rustix::fs::statfs(pin).is_ok_and(|stat| stat.f_type == NSFS)
}
