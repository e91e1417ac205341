//! What a container of a user namespace is made of, where its root can reach it.
//!
//! Root of a user namespace is nobody on the host: it may not enter the private directories that lead to its
//! container's files and volumes. So the process that creates the container opens them while it still may, and shows
//! them in a mount namespace of its own, with owners mapped into the user namespace:
//!
//! ```text
//!   /<first>                                  tmpfs that hides the private directories
//!   /<first>/…/<container>                    the container's directory, at its usual path
//!   /<first>/…/<container>/stage/<number>     volumes, files of the sandbox, namespaces to join
//! ```
//!
//! The mount namespace goes with the process; the container's own is a copy from which all of this is gone after
//! `pivot_root`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, fstat};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, move_mount};
use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use super::launch::{Source, Users};
use crate::sys;

/// In the container's directory; made by the agent.
pub const DIRECTORY: &str = "stage";

/// Where config.json finds source `number`.
pub fn path(directory: &Path, number: usize) -> PathBuf {
    directory.join(DIRECTORY).join(number.to_string())
}

/// Lets config.json name staged sources only; answers what is to be staged. `unmapped` files belong to ids of the user
/// namespace already.
pub fn redirect(oci: &mut Value, directory: &Path, unmapped: &[PathBuf]) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stage = |place: &mut Value, recursive: bool, mapped: bool| {
        let Some(source) = place.as_str().map(PathBuf::from) else { return };
        let mapped = mapped && !unmapped.contains(&source);
        *place = json!(path(directory, sources.len()));
        sources.push(Source { path: source, recursive, mapped });
    };
    for mount in oci["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "bind" {
            stage(&mut mount["source"], true, true);
        }
    }
    for namespace in oci["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        if namespace["path"].is_string() {
            stage(&mut namespace["path"], false, false);
        }
    }
    sources
}

/// Enters the mount namespace. Must run in a process of its own with one thread.
pub fn enter(directory: &Path, users: &Users) -> io::Result<()> {
    let namespace = File::open(&users.namespace)?;
    let own = sys::detached_mount(directory, true)?;
    let sources: Vec<OwnedFd> =
        users.sources.iter().map(|source| open(source, namespace.as_fd())).collect::<Result<_, _>>()?;
    // SAFETY: only the mount namespace is left, no memory or descriptor table is.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // What we hide is hidden from nobody else.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    mount_tmpfs(&first(directory)?)?;
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    attach(own.as_fd(), directory)?;
    let stage = directory.join(DIRECTORY);
    mount_tmpfs(&stage)?;
    for (number, source) in sources.iter().enumerate() {
        let target = path(directory, number);
        match FileType::from_raw_mode(fstat(source)?.st_mode) {
            FileType::Directory => std::fs::create_dir(&target)?,
            _ => drop(File::create(&target)?),
        }
        attach(source.as_fd(), &target)?;
    }
    std::env::set_current_dir(directory)
}

fn open(source: &Source, users: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let failed = |doing: &str, error: io::Error| {
        let text = super::finish::text(&error);
        io::Error::new(error.kind(), format!("failed to {doing} {}: {text}", source.path.display()))
    };
    let mount = sys::detached_mount(&source.path, source.recursive).map_err(|error| failed("open", error))?;
    if source.mapped {
        let attributes = sys::MountAttributes { idmap: Some(users), ..Default::default() };
        sys::set_mount_attributes(mount.as_fd(), attributes).map_err(|error| {
            let error = failed("set MOUNT_ATTR_IDMAP on", error);
            let hint = "(maybe the filesystem used doesn't support idmap mounts on this kernel?)";
            io::Error::new(error.kind(), format!("{error} {hint}"))
        })?;
    }
    Ok(mount)
}

/// The directory right below the root that leads to `path`.
fn first(path: &Path) -> io::Result<PathBuf> {
    let mut components = path.components();
    match (components.next(), components.next(), components.next()) {
        (Some(Component::RootDir), Some(Component::Normal(name)), Some(_)) => Ok(Path::new("/").join(name)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no place for containers with users of their own", path.display()),
        )),
    }
}

fn mount_tmpfs(target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::NOSUID, c"mode=755")?)
}

/// Puts a detached mount into its place.
pub fn attach(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", rustix::fs::CWD, target, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_a_container_is_made_of_is_staged() {
        let mut oci = json!({
            "mounts": [
                { "type": "proc", "source": "proc" },
                { "type": "bind", "source": "/v/data" },
                { "type": "bind", "source": "/s/shm" },
            ],
            "linux": { "namespaces": [
                { "type": "mount" },
                { "type": "user", "path": "/s/user" },
                { "type": "network", "path": "/s/net" },
            ] },
        });
        let sources = redirect(&mut oci, Path::new("/c/1"), &[PathBuf::from("/s/shm")]);
        let source = |path: &str, recursive, mapped| Source { path: path.into(), recursive, mapped };
        assert_eq!(
            sources,
            [
                source("/v/data", true, true),
                source("/s/shm", true, false),
                source("/s/user", false, false),
                source("/s/net", false, false)
            ]
        );
        assert_eq!(oci["mounts"][0]["source"], "proc");
        assert_eq!(oci["mounts"][1]["source"], "/c/1/stage/0");
        assert_eq!(oci["linux"]["namespaces"][2]["path"], "/c/1/stage/3");
    }

    #[test]
    fn a_container_right_below_the_root_cannot_be_hidden_from() {
        assert_eq!(first(Path::new("/var/lib/x")).expect("deep enough"), Path::new("/var"));
        assert!(first(Path::new("/x")).is_err());
        assert!(first(Path::new("x/y")).is_err());
    }
}
