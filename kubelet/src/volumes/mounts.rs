//! The kernel's list of mounts, and taking mounts away.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::VolumeError;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Mount points at or below `root`, deepest and newest first.
pub fn below(root: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let table = fs::read_to_string(MOUNTINFO).map_err(VolumeError::io("read", MOUNTINFO))?;
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|path| path.starts_with(root))
        .collect();
    found.reverse();
    Ok(found)
}

/// Whether another file system than that of the directory above is mounted here. Cheaper than looking through all
/// mounts of a node with many pods.
pub fn has_own_filesystem(path: &Path) -> Result<bool, VolumeError> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| {
        fs::symlink_metadata(path).map(|found| found.dev()).map_err(VolumeError::io("look at", path))
    };
    match path.parent() {
        Some(parent) => Ok(device(path)? != device(parent)?),
        None => Ok(true),
    }
}

/// Octal escapes of blanks and backslashes.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = bytes
            .get(index..index + 4)
            .filter(|four| four[0] == b'\\')
            .and_then(|four| std::str::from_utf8(&four[1..]).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                out.push(byte);
                index += 4;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// Unmounts everything at or below `root`; `false` when nothing was mounted there. Busy mounts are detached: their last
/// user takes them along.
pub fn unmount_below(root: &Path) -> Result<bool, VolumeError> {
    let mounted = below(root)?;
    for path in &mounted {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(nix::Error::EBUSY) => umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .map_err(|errno| VolumeError::io("unmount", path)(errno.into()))?,
            Err(errno) => return Err(VolumeError::io("unmount", path)(errno.into())),
        }
    }
    Ok(!mounted.is_empty())
}

/// Removes a directory tree after its mounts; never follows into a mount that stayed.
pub fn remove_tree(root: &Path) -> Result<(), VolumeError> {
    if unmount_below(root)?
        && let Some(left) = below(root)?.first()
    {
        return Err(VolumeError::Invalid(format!("{} is still mounted", left.display())));
    }
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(VolumeError::io("remove", root)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_the_kernel_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescape("/a\\9"), PathBuf::from("/a\\9"));
    }
}
