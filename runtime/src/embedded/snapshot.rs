//! A container's root: its image's layers below a writable layer of its own.

mod mapped;

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::sandbox::PodUsers;
use crate::image::Layer;
use crate::image::Store;
use crate::shim::stage;
use mapped::Overlay;

/// Directories of one snapshot, all in the container's directory.
#[derive(Debug, Clone)]
pub struct Snapshot {
    directory: PathBuf,
}

impl Snapshot {
    pub fn new(container: &Path) -> Self {
        Snapshot { directory: container.to_owned() }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    pub fn upper(&self) -> PathBuf {
        self.directory.join("upper")
    }

    /// Where the layers of a container with users of its own are shown.
    fn stage(&self) -> PathBuf {
        self.directory.join(stage::DIRECTORY)
    }

    /// Mounts it, unless it is mounted. `layers` count from the bottom; their files belong to the same ids of `users`,
    /// if the container has some of its own.
    pub fn mount(&self, store: &Store, layers: &[Layer], users: Option<&PodUsers>) -> io::Result<()> {
        for name in ["rootfs", "upper", "work"] {
            create_if_missing(&self.directory.join(name))?;
        }
        if self.is_mounted() {
            return Ok(());
        }
        // What a program sees as / should not be ours alone to enter.
        self.inherit_root(store, layers, users)?;
        if let Some(users) = users {
            return self.mount_mapped(store, layers, users);
        }
        let name = self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let up = format!("../containers/{name}");
        let lower: Vec<String> = layers.iter().rev().map(|layer| format!("{}/fs", layer.key())).collect();
        // Builds take the upper directory for a layer: it must need nothing but its files.
        let mut options = format!("redirect_dir=off,metacopy=off,upperdir={up}/upper,workdir={up}/work");
        options.push_str(&if lower.is_empty() {
            ",lowerdir=../empty".to_owned()
        } else {
            format!(",lowerdir={}", lower.join(":"))
        });
        if lower.is_empty() {
            std::fs::create_dir_all(store.root().join("empty"))?;
        }
        mount_from(&store.layers_directory(), &self.rootfs(), &options, MountFlags::empty())
    }

    fn mount_mapped(&self, store: &Store, layers: &[Layer], users: &PodUsers) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        // The pod's root comes in by way of a namespace where the directories above are hidden.
        std::fs::set_permissions(&self.directory, std::fs::Permissions::from_mode(0o711))?;
        create_if_missing(&self.stage())?;
        let (upper, work) = (self.upper(), self.directory.join("work"));
        mapped::mount(&Overlay {
            users: &users.namespace,
            layers: mapped_layers(store, layers, 1)?,
            options: format!(
                "redirect_dir=off,metacopy=off,upperdir={},workdir={},",
                upper.display(),
                work.display()
            ),
            flags: MountFlags::empty(),
            stage: self.stage(),
            target: &self.rootfs(),
        })
    }

    /// Mode and owner of / are those of the topmost layer.
    fn inherit_root(&self, store: &Store, layers: &[Layer], users: Option<&PodUsers>) -> io::Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let first = users.map_or(0, |users| users.ids.host_id);
        let Some(top) = layers.last() else {
            return std::os::unix::fs::chown(self.upper(), Some(first), Some(first));
        };
        let metadata = std::fs::metadata(store.layer_files(top))?;
        let shown = |id: u32| Some(first.saturating_add(id));
        std::os::unix::fs::chown(self.upper(), shown(metadata.uid()), shown(metadata.gid()))?;
        std::fs::set_permissions(self.upper(), std::fs::Permissions::from_mode(metadata.mode() & 0o7777))
    }

    fn is_mounted(&self) -> bool {
        const OVERLAY: i64 = 0x794c_7630;
        rustix::fs::statfs(self.rootfs()).is_ok_and(|stat| stat.f_type == OVERLAY)
    }

    /// Unmounts; not mounted is fine.
    pub fn unmount(&self) -> io::Result<()> {
        unmount(&self.rootfs())
    }
}

fn create_if_missing(directory: &Path) -> io::Result<()> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Directories of layers, topmost first, and at least so many as overlayfs wants.
fn mapped_layers(store: &Store, layers: &[Layer], least: usize) -> io::Result<Vec<PathBuf>> {
    let mut directories: Vec<PathBuf> = layers.iter().rev().map(|layer| store.layer_files(layer)).collect();
    let empty = store.root().join("empty");
    while directories.len() < least {
        std::fs::create_dir_all(&empty)?;
        directories.push(empty.clone());
    }
    Ok(directories)
}

/// An image's files, read-only, for an image volume below a container's directory.
pub fn mount_image(
    store: &Store,
    layers: &[Layer],
    target: &Path,
    users: Option<&PodUsers>,
) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    if let Some((users, container)) = users.zip(target.parent()) {
        return mapped::mount(&Overlay {
            users: &users.namespace,
            layers: mapped_layers(store, layers, 2)?,
            options: String::new(),
            flags: MountFlags::RDONLY,
            stage: container.join(stage::DIRECTORY),
            target,
        });
    }
    let mut lower: Vec<String> = layers.iter().rev().map(|layer| format!("{}/fs", layer.key())).collect();
    // overlayfs without a writable layer needs two.
    std::fs::create_dir_all(store.root().join("empty"))?;
    lower.push("../empty".to_owned());
    if lower.len() < 2 {
        lower.push("../tmp".to_owned());
    }
    mount_from(
        &store.layers_directory(),
        target,
        &format!("lowerdir={}", lower.join(":")),
        MountFlags::RDONLY,
    )
}

/// Options name directories relative to `base`, so that 127 layers fit in the one page the kernel takes. The
/// working directory is changed on a thread of its own only.
fn mount_from(base: &Path, target: &Path, options: &str, flags: MountFlags) -> io::Result<()> {
    let work = || -> io::Result<()> {
        // SAFETY: the thread keeps its memory and descriptors; only the working directory becomes its own.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
        std::env::set_current_dir(base)?;
        let options = std::ffi::CString::new(options)?;
        rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())?;
        rustix::mount::mount_change(target, MountPropagationFlags::PRIVATE)?;
        Ok(())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".to_owned()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread that mounts panicked"))?
    })
}

pub fn unmount(target: &Path) -> io::Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
