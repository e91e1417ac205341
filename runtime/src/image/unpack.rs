//! Unpacking one layer into a directory for overlayfs.
//!
//! The archive is hostile until shown otherwise. Every path is walked by openat2 with RESOLVE_BENEATH from the
//! layer's own directory and the last element is never followed, so no entry can touch anything outside, whatever
//! links the archive made before.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::digest::{Digest, Hashing};
use super::tar::{self, Entry, Kind, Reader};
use super::{Error, Limits, Result, compression, io_error};

/// AUFS' marks, which images use: a removed name, and a directory that hides what is below it.
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const BESIDE: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;

/// What is left of an image's allowance.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
}

impl Budget {
    pub fn new(limits: Limits) -> Self {
        Budget { limits, bytes: limits.unpacked_bytes, entries: limits.entries }
    }

    fn spend_entry(&mut self) -> Result<()> {
        let left = self.entries.checked_sub(1);
        self.entries = left.ok_or(Error::TooLarge { limit: self.limits.entries, unit: "files" })?;
        Ok(())
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes =
            left.ok_or(Error::TooLarge { limit: self.limits.unpacked_bytes, unit: "bytes unpacked" })?;
        Ok(())
    }
}

/// What came out of a layer.
#[derive(Debug)]
pub struct Unpacked {
    pub diff_id: Digest,
    pub bytes: u64,
}

/// Unpacks a layer, compressed or not, into the empty directory `target`. `parents` are the unpacked layers below,
/// nearest first: directories that the archive only implies look as they do there.
pub fn unpack(layer: impl Read, target: &Path, parents: &[PathBuf], budget: &mut Budget) -> Result<Unpacked> {
    let stream = compression::decompress(layer).map_err(tar::read)?;
    let mut reader = Reader::new(Hashing::new(stream));
    let root = File::open(target).map_err(io_error(format!("open {}", target.display())))?;
    let mut layer =
        Layer { root: root.into(), parents, directories: Vec::new(), made: HashSet::new(), bytes: 0 };
    while let Some(entry) = reader.next_entry()? {
        budget.spend_entry()?;
        budget.spend(entry_cost(&entry))?;
        layer.add(&entry, &mut reader)?;
    }
    layer.set_directory_times()?;
    let (_, diff_id, _) = reader.finish().map_err(tar::read)?.finish();
    Ok(Unpacked { diff_id, bytes: layer.bytes })
}

/// Whether a file is a tar archive, compressed or not.
pub fn is_archive(file: impl Read) -> Result<bool> {
    const MAGIC: std::ops::Range<usize> = 257..262;
    let mut start = Vec::new();
    let mut stream = compression::decompress(file).map_err(tar::read)?;
    match stream.by_ref().take(512).read_to_end(&mut start) {
        Ok(_) => Ok(start.get(MAGIC) == Some(b"ustar")),
        // Only looked compressed.
        Err(_) => Ok(false),
    }
}

/// Unpacks an archive below a directory, with all the care that a layer gets.
pub fn unpack_archive(archive: impl Read, target: &Path, limits: Limits) -> Result<()> {
    unpack(archive, target, &[], &mut Budget::new(limits)).map(drop)
}

fn entry_cost(entry: &Entry) -> u64 {
    if entry.kind == Kind::File { entry.size } else { 0 }
}

struct Layer<'a> {
    root: OwnedFd,
    parents: &'a [PathBuf],
    /// Times of directories, set last because what is made in them changes them.
    directories: Vec<(PathBuf, (i64, u32))>,
    made: HashSet<PathBuf>,
    bytes: u64,
}

impl Layer<'_> {
    fn add(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = clean(&entry.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.describe_root(entry);
        };
        let parent = self.parent(entry, path.parent().unwrap_or(Path::new("")))?;
        let in_entry = |source| Error::Io { doing: format!("unpack {}", path.display()), source };
        if name.as_bytes() == OPAQUE {
            return set_opaque(&parent).map_err(in_entry);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            // Others of AUFS' own (`.wh..wh.plnk`) mean nothing here.
            if hidden.starts_with(WHITEOUT) || hidden.is_empty() {
                return Ok(());
            }
            if matches!(hidden, b"." | b"..") {
                return Err(hostile(entry, "removes its own directory"));
            }
            return whiteout(&parent, OsStr::from_bytes(hidden)).map_err(in_entry);
        }
        self.make(entry, &parent, &name, content)?;
        self.describe(entry, &parent, &name).map_err(in_entry)?;
        if entry.kind == Kind::Directory {
            self.directories.push((path.clone(), entry.modified));
            self.made.insert(path);
        }
        Ok(())
    }

    fn make(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr, content: &mut impl Read) -> Result<()> {
        let in_entry =
            |source: io::Error| Error::Io { doing: format!("unpack {}", show(&entry.path)), source };
        if entry.kind == Kind::Directory {
            return make_directory(parent, name).map_err(in_entry);
        }
        replace(parent, name).map_err(in_entry)?;
        match entry.kind {
            Kind::File => {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
                let mut file = File::from(open_new(parent, name, flags).map_err(in_entry)?);
                self.bytes += copy(content, &mut file, in_entry)?;
                Ok(())
            }
            Kind::HardLink => self.hard_link(entry, parent, name),
            Kind::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name)
                .map_err(|e| in_entry(e.into())),
            Kind::CharacterDevice => {
                make_node(parent, name, FileType::CharacterDevice, entry.device).map_err(in_entry)
            }
            Kind::BlockDevice => {
                make_node(parent, name, FileType::BlockDevice, entry.device).map_err(in_entry)
            }
            Kind::Fifo => make_node(parent, name, FileType::Fifo, (0, 0)).map_err(in_entry),
            Kind::Directory => Ok(()),
        }
    }

    fn hard_link(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let target = clean(&entry.link)?;
        let missing = || hostile(entry, "links to what the layer does not hold");
        let target_name = target.file_name().ok_or_else(missing)?;
        let directory = self.open(target.parent().unwrap_or(Path::new(""))).map_err(|_| missing())?;
        // Without AT_SYMLINK_FOLLOW a link to a link is a second link, not a link to what it points to.
        rustix::fs::linkat(&directory, target_name, parent, name, AtFlags::empty()).map_err(|_| missing())
    }

    /// Opens a directory of the layer.
    fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        crate::sys::open_beneath(self.root.as_fd(), path, libc::O_RDONLY | libc::O_DIRECTORY, BESIDE)
    }

    /// The directory an entry goes into, made where the archive only implies it.
    fn parent(&mut self, entry: &Entry, path: &Path) -> Result<OwnedFd> {
        match self.open(path) {
            Ok(directory) => return Ok(directory),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => {}
                Some(libc::EXDEV | libc::ELOOP) => {
                    return Err(hostile(entry, "leads out of the image through a link"));
                }
                Some(libc::ENOTDIR) => return Err(hostile(entry, "is below a file")),
                _ => return Err(Error::Io { doing: format!("unpack {}", show(&entry.path)), source: error }),
            },
        }
        let Some(name) = path.file_name() else { return self.open(path).map_err(io_error("open the layer")) };
        let above = self.parent(entry, path.parent().unwrap_or(Path::new("")))?;
        make_directory(&above, name)
            .and_then(|()| self.look_as_below(&above, name, path))
            .map_err(io_error(format!("unpack {}", path.display())))?;
        self.open(path).map_err(io_error(format!("unpack {}", path.display())))
    }

    /// Mode and owner of an implied directory are those it has in the layers below, where it exists.
    fn look_as_below(&self, above: &OwnedFd, name: &OsStr, path: &Path) -> io::Result<()> {
        for parent in self.parents {
            let root = File::open(parent)?;
            let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let Ok(found) = crate::sys::open_beneath(root.as_fd(), path, flags, BESIDE) else { continue };
            let stat = rustix::fs::fstat(&found)?;
            let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::chownat(above, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::chmodat(above, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
            return Ok(());
        }
        Ok(())
    }

    fn describe(&self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        // Its target is described already.
        if entry.kind == Kind::HardLink {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if entry.kind != Kind::Symlink {
            // After the owner, since that clears set-user-id.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| wanted_xattr(key)) {
            set_xattr(parent, name, key, value)?;
        }
        let times = timestamps(entry.modified);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// `./` speaks of the root itself.
    fn describe_root(&mut self, entry: &Entry) -> Result<()> {
        let error = io_error("unpack /");
        (|| -> io::Result<()> {
            rustix::fs::fchown(&self.root, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
            rustix::fs::fchmod(&self.root, Mode::from_raw_mode(entry.mode))?;
            Ok(())
        })()
        .map_err(error)?;
        self.directories.push((PathBuf::new(), entry.modified));
        Ok(())
    }

    fn set_directory_times(&self) -> Result<()> {
        for (path, modified) in self.directories.iter().rev() {
            // Replaced by something else later in the archive.
            let Ok(directory) = self.open(path) else { continue };
            rustix::fs::futimens(&directory, &timestamps(*modified)).map_err(|error| Error::Io {
                doing: format!("unpack {}", path.display()),
                source: error.into(),
            })?;
        }
        Ok(())
    }
}

/// Attributes that mean something to programs. Those of overlayfs would let a layer point into others.
fn wanted_xattr(key: &str) -> bool {
    key == "security.capability" || key.starts_with("user.") && !key.starts_with("user.overlay.")
}

fn hostile(entry: &Entry, reason: &'static str) -> Error {
    Error::HostileEntry { entry: show(&entry.path), reason }
}

fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A relative path without dots; empty for the root.
fn clean(path: &[u8]) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for element in path.split(|byte| *byte == b'/') {
        match element {
            b"" | b"." => {}
            b".." => {
                return Err(Error::HostileEntry {
                    entry: show(path),
                    reason: "leads out of the image by \"..\"",
                });
            }
            name if name.contains(&0) || name.len() > 255 => {
                return Err(Error::HostileEntry {
                    entry: show(path),
                    reason: "has a name that no file can have",
                });
            }
            name => clean.push(OsStr::from_bytes(name)),
        }
    }
    Ok(clean)
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn open_new(parent: &OwnedFd, name: &OsStr, flags: i32) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        parent,
        name,
        OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )?)
}

fn copy(content: &mut impl Read, file: &mut File, in_entry: impl Fn(io::Error) -> Error) -> Result<u64> {
    let mut buffer = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        let count = content.read(&mut buffer).map_err(tar::read)?;
        if count == 0 {
            return Ok(total);
        }
        file.write_all(&buffer[..count]).map_err(&in_entry)?;
        total += count as u64;
    }
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                return Ok(());
            }
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes room for an entry that comes a second time.
fn replace(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => remove_directory(parent.as_fd(), name),
        Err(error) => Err(error.into()),
    }
}

fn remove_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = OsStr::from_bytes(entry.file_name().to_bytes());
        if matches!(child.as_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&directory, child, AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR) => remove_directory(directory.as_fd(), child)?,
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn make_node(parent: &OwnedFd, name: &OsStr, kind: FileType, (major, minor): (u32, u32)) -> io::Result<()> {
    Ok(rustix::fs::mknodat(
        parent,
        name,
        kind,
        Mode::from_raw_mode(0o600),
        rustix::fs::makedev(major, minor),
    )?)
}

/// overlayfs' form of a removed name.
fn whiteout(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    replace(parent, name)?;
    make_node(parent, name, FileType::CharacterDevice, (0, 0))
}

fn set_opaque(directory: &OwnedFd) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())?)
}

/// Through /proc, since there is no call that takes a directory and a name.
fn set_xattr(parent: &OwnedFd, name: &OsStr, key: &str, value: &[u8]) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    let path = CString::new(path)?;
    match rustix::fs::lsetxattr(path.as_c_str(), key, value, XattrFlags::empty()) {
        // A file system without such attributes loses them, as elsewhere.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}
