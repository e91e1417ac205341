//! What a step changed, as the archive that registries and other runtimes take: an upper directory of overlayfs to a
//! layer.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

/// Sets whether this entry hides what is below it.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Changes that only overlayfs itself understands; mounts are made so that there are none.
const FOREIGN: [&str; 2] = ["trusted.overlay.redirect", "trusted.overlay.metacopy"];
const CAPABILITY: &str = "security.capability";
/// Longest attribute that is taken over.
const MAX_ATTRIBUTE: usize = 64 * 1024;

/// Writes the archive of an upper directory; returns the bytes of its files. The same files always give the same
/// archive.
pub fn archive(upper: &Path, out: impl Write) -> io::Result<u64> {
    let mut builder = Builder::new(out);
    builder.mode(tar::HeaderMode::Complete);
    let mut archive = Archive { builder, links: HashMap::new(), bytes: 0 };
    archive.directory(upper, Path::new(""))?;
    archive.builder.into_inner()?.flush()?;
    Ok(archive.bytes)
}

struct Archive<W: Write> {
    builder: Builder<W>,
    /// First name of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    bytes: u64,
}

impl<W: Write> Archive<W> {
    fn directory(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let mut children =
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        children.sort();
        for child in children {
            self.entry(&path.join(&child), &name.join(&child))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = std::fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            return self.whiteout(name);
        }
        if kind.is_socket() {
            // Sockets belong to processes, not to images.
            return Ok(());
        }
        for attribute in FOREIGN {
            if get_attribute(path, attribute)?.is_some() {
                return Err(io::Error::other(format!("{} has {attribute}", name.display())));
            }
        }
        if metadata.nlink() > 1 && !kind.is_dir() {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&id).cloned() {
                let mut header = header(&metadata, EntryType::Link, 0);
                return self.builder.append_link(&mut header, name, first);
            }
            self.links.insert(id, name.to_owned());
        }
        if let Some(value) = get_attribute(path, CAPABILITY)? {
            self.builder.append_pax_extensions([("SCHILY.xattr.security.capability", value.as_slice())])?;
        }
        if kind.is_dir() {
            self.builder.append_data(
                &mut header(&metadata, EntryType::Directory, 0),
                slashed(name),
                io::empty(),
            )?;
            if get_attribute(path, OPAQUE)?.is_some_and(|value| value == b"y") {
                self.empty(&name.join(".wh..wh..opq"))?;
            }
            return self.directory(path, name);
        }
        if kind.is_symlink() {
            let mut header = header(&metadata, EntryType::Symlink, 0);
            return self.builder.append_link(&mut header, name, std::fs::read_link(path)?);
        }
        if kind.is_file() {
            self.bytes += metadata.len();
            let mut header = header(&metadata, EntryType::Regular, metadata.len());
            return self.builder.append_data(&mut header, name, File::open(path)?);
        }
        let kind = if kind.is_fifo() {
            EntryType::Fifo
        } else if kind.is_block_device() {
            EntryType::Block
        } else {
            EntryType::Char
        };
        let mut header = header(&metadata, kind, 0);
        if kind != EntryType::Fifo {
            header.set_device_major(libc::major(metadata.rdev()))?;
            header.set_device_minor(libc::minor(metadata.rdev()))?;
        }
        self.builder.append_data(&mut header, name, io::empty())
    }

    fn whiteout(&mut self, name: &Path) -> io::Result<()> {
        let mut hidden = std::ffi::OsString::from(".wh.");
        hidden.push(name.file_name().unwrap_or_default());
        self.empty(&name.with_file_name(hidden))
    }

    fn empty(&mut self, name: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(0);
        header.set_size(0);
        self.builder.append_data(&mut header, name, io::empty())
    }
}

fn slashed(name: &Path) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push("/");
    PathBuf::from(name)
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

/// An extended attribute; `None` where there is none.
pub fn get_attribute(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::lgetxattr(path, name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < MAX_ATTRIBUTE => value.resize(MAX_ATTRIBUTE, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
