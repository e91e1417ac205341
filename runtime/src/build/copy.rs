//! Putting found files into a root.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::changes::get_attribute;
use super::chmod::Chmod;
use super::tree::{Entry, Found, Root, What};

/// What is said about all copied files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looks<'a> {
    /// `None`: as the source.
    pub owner: Option<(u32, u32)>,
    pub mode: Option<&'a Chmod>,
}

/// Copies what was found to `destination`: below it where it is a directory or ends with a slash.
pub fn copy(found: &Found, root: &Root, destination: &str, looks: Looks<'_>) -> io::Result<()> {
    let into = destination.ends_with('/') || root.is_directory(destination);
    let target = match (found.is_directory(), into) {
        (false, true) => format!("{}/{}", destination.trim_end_matches('/'), found.name),
        _ => destination.trim_end_matches('/').to_owned(),
    };
    for entry in &found.entries {
        let below = entry.below.to_string_lossy();
        let path = if below.is_empty() { target.clone() } else { format!("{target}/{below}") };
        place(entry, root, &path, looks)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    }
    // Last, since what is put into a directory changes it.
    for entry in found.entries.iter().rev().filter(|entry| entry.what == What::Directory) {
        if entry.below.as_os_str().is_empty() {
            continue;
        }
        let directory =
            root.resolve(&format!("{target}/{}", entry.below.display()), libc::O_RDONLY | libc::O_DIRECTORY)?;
        rustix::fs::futimens(&directory, &times(&entry.metadata))?;
    }
    Ok(())
}

fn place(entry: &Entry, root: &Root, path: &str, looks: Looks<'_>) -> io::Result<()> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    if entry.what == What::Directory {
        let existed = root.is_directory(path);
        let directory = root.make_directories(path, looks.owner)?;
        // The start stands for its content: a directory that is there stays as it is.
        if existed && entry.below.as_os_str().is_empty() {
            return Ok(());
        }
        let (uid, gid) = owner(entry, looks);
        rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&directory, mode(entry, looks))?;
        return Ok(());
    }
    let parent = root.make_directories(above, looks.owner)?;
    clear(&parent, name)?;
    match &entry.what {
        What::Link(target) => {
            rustix::fs::symlinkat(target, &parent, name)?;
            let (uid, gid) = owner(entry, looks);
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        _ => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(file);
            io::copy(&mut File::open(&entry.path)?, &mut file)?;
            describe(&file, entry, looks)?;
        }
    }
    rustix::fs::utimensat(&parent, name, &times(&entry.metadata), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn describe(file: &File, entry: &Entry, looks: Looks<'_>) -> io::Result<()> {
    let (uid, gid) = owner(entry, looks);
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    // After the owner, since that clears set-user-id.
    rustix::fs::fchmod(file, mode(entry, looks))?;
    const CAPABILITY: &str = "security.capability";
    if looks.owner.is_none()
        && let Some(value) = get_attribute(&entry.path, CAPABILITY)?
    {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::setxattr(path, CAPABILITY, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Removes what is in a file's way.
fn clear(parent: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
            Err(io::Error::other("cannot replace a directory by a file"))
        }
        Ok(_) => Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?),
    }
}

fn owner(entry: &Entry, looks: Looks<'_>) -> (Uid, Gid) {
    let (uid, gid) = looks.owner.unwrap_or((entry.metadata.uid(), entry.metadata.gid()));
    (Uid::from_raw(uid), Gid::from_raw(gid))
}

fn mode(entry: &Entry, looks: Looks<'_>) -> Mode {
    let own = entry.metadata.mode() & 0o7777;
    let directory = entry.what == What::Directory;
    Mode::from_raw_mode(looks.mode.map_or(own, |chmod| chmod.apply(own, directory)))
}

fn times(metadata: &std::fs::Metadata) -> Timestamps {
    let modified = Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() as _ };
    Timestamps { last_access: modified, last_modification: modified }
}

/// Writes text as a file: a heredoc, or what was downloaded.
pub fn write(root: &Root, path: &str, content: &[u8], looks: Looks<'_>) -> io::Result<()> {
    use std::io::Write;
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = root.make_directories(above, looks.owner)?;
    clear(&parent, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
    file.write_all(content)?;
    let (uid, gid) = looks.owner.unwrap_or((0, 0));
    rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    let mode = looks.mode.map_or(0o644, |chmod| chmod.apply(0o644, false));
    Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?)
}

/// Unpacks an archive below a directory of the root; `false` where the file is none.
pub fn unpack(
    archive: &Path,
    root: &Root,
    directory: &str,
    limits: crate::image::Limits,
) -> super::Result<bool> {
    let open = || File::open(archive).map_err(super::io_error(format!("open {}", archive.display())));
    if !crate::image::is_archive(open()?)? {
        return Ok(false);
    }
    let target = root
        .make_directories(directory, Some((0, 0)))
        .map_err(super::io_error(format!("create {directory}")))?;
    let path = format!("/proc/self/fd/{}", target.as_raw_fd());
    crate::image::unpack_archive(open()?, Path::new(&path), limits)?;
    Ok(true)
}
