//! A path inside a volume for one container. The volume's content is the pod's to change at any time, so the path is
//! opened beneath the volume without ever leaving it, and what was opened is bind-mounted: a link swapped in later
//! changes nothing.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, fchmod, mkdirat};

use super::{VolumeError, mounts};

/// Where the bind mount of one mount of one container goes.
pub fn target(pod_dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    pod_dir.join("volume-subpaths").join(volume).join(container).join(index.to_string())
}

/// Refuses absolute paths and those with `..` in them.
pub fn check(sub_path: &str) -> Result<(), VolumeError> {
    let path = Path::new(sub_path);
    if path.is_absolute() {
        return Err(VolumeError::Invalid(format!("error SubPath `{sub_path}` must not be an absolute path")));
    }
    if path.components().any(|c| matches!(c, Component::ParentDir)) {
        return Err(VolumeError::Invalid(format!(
            "unable to provision SubPath `{sub_path}`: must not contain '..'"
        )));
    }
    Ok(())
}

/// Opens (and makes, where it is absent) `sub_path` in `volume` and binds it to `target`.
pub fn bind(volume: &Path, sub_path: &str, target: &Path) -> Result<(), VolumeError> {
    check(sub_path)?;
    let opened = open_or_make(volume, Path::new(sub_path))
        .map_err(|errno| VolumeError::io("open subPath in", volume)(errno.into()))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let directory = fs::metadata(&source).map_err(VolumeError::io("stat", &source))?.is_dir();
    // A restarted container gets what the path names now.
    let _replaced = mounts::unmount_below(target)?;
    prepare_target(target, directory)?;
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| VolumeError::io("bind", target)(errno.into()))
}

fn prepare_target(target: &Path, directory: bool) -> Result<(), VolumeError> {
    let io = |doing| VolumeError::io(doing, target);
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() == directory => return Ok(()),
        Ok(found) if found.is_dir() => fs::remove_dir(target).map_err(io("remove"))?,
        Ok(_) => fs::remove_file(target).map_err(io("remove"))?,
        Err(_) => {}
    }
    let parent = if directory { target } else { target.parent().unwrap_or(target) };
    fs::DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(io("create directory"))?;
    if !directory {
        fs::File::create(target).map(drop).map_err(io("create"))?;
    }
    Ok(())
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn open_or_make(volume: &Path, sub_path: &Path) -> Result<OwnedFd, Errno> {
    let root =
        nix::fcntl::open(volume, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    match openat2(&root, sub_path, how(OFlag::O_PATH)) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let mode = Mode::from_bits_truncate(nix::sys::stat::fstat(&root)?.st_mode & 0o7777);
    let mut made = PathBuf::new();
    for component in sub_path.components() {
        let Component::Normal(name) = component else { continue };
        let parent = if made.as_os_str().is_empty() {
            openat2(&root, ".", how(OFlag::O_RDONLY | OFlag::O_DIRECTORY))?
        } else {
            openat2(&root, &made, how(OFlag::O_RDONLY | OFlag::O_DIRECTORY))?
        };
        match mkdirat(&parent, name, mode) {
            Ok(()) => {
                // mkdir obeys the umask; volumes' subdirectories are as open as the volume.
                let fresh = nix::fcntl::openat(
                    &parent,
                    name,
                    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )?;
                fchmod(&fresh, mode)?;
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        made.push(name);
    }
    openat2(&root, sub_path, how(OFlag::O_PATH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_out_of_the_volume_are_not_followed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("real")).expect("made");
        symlink("/etc", volume.join("absolute")).expect("linked");
        symlink("../..", volume.join("up")).expect("linked");
        symlink("real", volume.join("inside")).expect("linked");
        for bad in ["absolute", "up", "absolute/passwd"] {
            assert!(open_or_make(&volume, Path::new(bad)).is_err(), "{bad}");
        }
        for good in ["real", "inside", "new/deep"] {
            assert!(open_or_make(&volume, Path::new(good)).is_ok(), "{good}");
        }
        assert!(volume.join("new/deep").is_dir());
    }

    #[test]
    fn paths_that_climb_are_refused() {
        assert!(check("/a").is_err());
        assert!(check("a/../b").is_err());
        assert!(check("a/b").is_ok());
    }
}
