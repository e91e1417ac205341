//! Roots of containers with users of their own: overlay mounts cannot be shown with other owners, but their layers can.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use crate::shim::stage;
use crate::sys;

/// What to mount where.
pub struct Overlay<'a> {
    /// Pin of the user namespace whose ids the layers' owners become.
    pub users: &'a Path,
    /// Topmost first.
    pub layers: Vec<PathBuf>,
    /// Further options, naming directories by full paths.
    pub options: String,
    pub flags: MountFlags,
    /// An empty directory, to show the layers in; nobody else sees them there.
    pub stage: PathBuf,
    pub target: &'a Path,
}

/// Mounts it. The layers are mapped in a mount namespace that only a thread of its own is in, so that nothing is left
/// of them when the agent dies on the way.
pub fn mount(overlay: &Overlay<'_>) -> io::Result<()> {
    let made = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned());
        let thread = thread.spawn_scoped(scope, || make(overlay))?;
        thread.join().map_err(|_| io::Error::other("the thread that mounts panicked"))?
    })?;
    stage::attach(made.as_fd(), overlay.target)?;
    Ok(rustix::mount::mount_change(overlay.target, MountPropagationFlags::PRIVATE)?)
}

/// Answers the overlay as a mount that hangs nowhere.
fn make(overlay: &Overlay<'_>) -> io::Result<OwnedFd> {
    let users = File::open(overlay.users)?;
    // SAFETY: the thread keeps its memory and descriptors; only the working directory and mounts become its own.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount("tmpfs", &overlay.stage, "tmpfs", MountFlags::empty(), c"mode=755")?;
    // Short names: options have a page.
    std::env::set_current_dir(&overlay.stage)?;
    let mut lower = Vec::with_capacity(overlay.layers.len());
    for (number, layer) in overlay.layers.iter().enumerate() {
        let name = number.to_string();
        let mount = sys::detached_mount(layer, false)?;
        let attributes = sys::MountAttributes { idmap: Some(users.as_fd()), ..Default::default() };
        sys::set_mount_attributes(mount.as_fd(), attributes).map_err(|error| {
            io::Error::new(error.kind(), format!("map the owners of {}: {error}", layer.display()))
        })?;
        std::fs::create_dir(&name)?;
        stage::attach(mount.as_fd(), Path::new(&name))?;
        lower.push(name);
    }
    let options = CString::new(format!("{}lowerdir={}", overlay.options, lower.join(":")))?;
    rustix::mount::mount("overlay", overlay.target, "overlay", overlay.flags, options.as_c_str())?;
    sys::detached_mount(overlay.target, false)
}
