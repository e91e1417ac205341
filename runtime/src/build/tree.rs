//! Directory trees that paths cannot leave, whatever links they hold: the context, and mounted roots.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, Uid};

use super::glob;
use super::ignore::Ignore;
use crate::image::digest::{Digest, Hashing};

/// Files of one COPY.
const MAX_ENTRIES: usize = 2_000_000;
/// Directories in directories.
const MAX_DEPTH: usize = 256;
/// A link leads to where the tree's own root is `/`.
const INSIDE: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

pub struct Root {
    directory: OwnedFd,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Directory,
    File,
    Link(PathBuf),
}

/// One thing to copy.
#[derive(Debug)]
pub struct Entry {
    /// Below what was asked for; empty for that itself.
    pub below: PathBuf,
    /// Where it can be read, as long as the tree's root is open.
    pub path: PathBuf,
    pub what: What,
    pub metadata: std::fs::Metadata,
}

/// What a source of COPY stands for.
pub struct Found {
    /// Last element of its path.
    pub name: String,
    pub entries: Vec<Entry>,
    /// Keeps the paths of `entries` good.
    _root: OwnedFd,
}

impl Found {
    pub fn is_directory(&self) -> bool {
        self.entries.first().is_some_and(|entry| entry.what == What::Directory)
    }
}

impl Root {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { directory: File::open(path)?.into() })
    }

    /// Opens a path below the root, links followed inside it.
    pub fn resolve(&self, path: &str, flags: i32) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        crate::sys::open_beneath(self.directory.as_fd(), Path::new(path), flags, INSIDE)
    }

    pub fn is_directory(&self, path: &str) -> bool {
        self.resolve(path, libc::O_PATH | libc::O_DIRECTORY).is_ok()
    }

    pub fn exists(&self, path: &str) -> bool {
        self.resolve(path, libc::O_PATH | libc::O_NOFOLLOW).is_ok()
    }

    /// A directory, made with those above it where they are missing.
    pub fn make_directories(&self, path: &str, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
        let mut above = String::new();
        for element in path.split('/').filter(|element| !element.is_empty()) {
            let here = format!("{above}/{element}");
            match self.resolve(&here, libc::O_PATH | libc::O_DIRECTORY) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    let parent = self.resolve(&above, libc::O_RDONLY | libc::O_DIRECTORY)?;
                    rustix::fs::mkdirat(&parent, element, Mode::from_raw_mode(0o755))?;
                    if let Some((uid, gid)) = owner {
                        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
                        rustix::fs::chownat(&parent, element, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
                    }
                }
                Err(error) => return Err(error),
            }
            above = here;
        }
        self.resolve(&above, libc::O_RDONLY | libc::O_DIRECTORY)
    }

    /// Paths that a pattern stands for, sorted; a path without wildcards stands for itself.
    pub fn glob(&self, pattern: &str, ignore: &Ignore) -> io::Result<Vec<String>> {
        if !glob::is_pattern(pattern) {
            return Ok(vec![pattern.to_owned()]);
        }
        let mut paths = vec![String::new()];
        for element in pattern.split('/') {
            let mut next = Vec::new();
            for above in &paths {
                let join =
                    |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
                if !glob::is_pattern(element) {
                    next.push(join(element));
                    continue;
                }
                let names = self.names(above)?;
                next.extend(
                    names.iter().filter(|name| glob::matches_element(element, name)).map(|n| join(n)),
                );
            }
            if next.len() > MAX_ENTRIES {
                return Err(io::Error::other("the pattern matches too many files"));
            }
            paths = next;
        }
        paths.retain(|path| self.exists(path) && !ignore.excludes(path));
        paths.sort();
        Ok(paths)
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let Ok(directory) = self.resolve(directory, libc::O_RDONLY | libc::O_DIRECTORY) else {
            return Ok(Vec::new());
        };
        let read = std::fs::read_dir(opened(&directory))?;
        read.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Everything at a path, parents before what is in them, names sorted.
    pub fn find(&self, path: &str, ignore: &Ignore, exclude: &Ignore) -> io::Result<Found> {
        let root = self.resolve(path, libc::O_PATH)?;
        let mut found = Vec::new();
        let walk = Walk { ignore, exclude, start: path };
        walk.visit(&opened(&root), PathBuf::new(), 0, &mut found)?;
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Found { name, entries: found, _root: root })
    }
}

/// The path that is an open file.
fn opened(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

struct Walk<'a> {
    ignore: &'a Ignore,
    exclude: &'a Ignore,
    start: &'a str,
}

impl Walk<'_> {
    fn visit(&self, path: &Path, below: PathBuf, depth: usize, found: &mut Vec<Entry>) -> io::Result<()> {
        if found.len() == MAX_ENTRIES || depth == MAX_DEPTH {
            return Err(io::Error::other("the tree is too large"));
        }
        // The start is a magic link to what was resolved; nothing below it is followed.
        let metadata = if depth == 0 { std::fs::metadata(path)? } else { std::fs::symlink_metadata(path)? };
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            What::Directory
        } else if kind.is_symlink() {
            What::Link(std::fs::read_link(path)?)
        } else if kind.is_file() {
            What::File
        } else {
            // Sockets, pipes and devices are nothing to copy.
            return Ok(());
        };
        let directory = what == What::Directory;
        found.push(Entry { below: below.clone(), path: path.to_owned(), what, metadata });
        if !directory {
            return Ok(());
        }
        let read = std::fs::read_dir(path)?;
        let mut names = read.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let below = below.join(&name);
            let inner = below.to_string_lossy();
            let whole =
                if self.start.is_empty() { inner.to_string() } else { format!("{}/{inner}", self.start) };
            let hidden = self.ignore.excludes(&whole) || self.exclude.excludes(&inner);
            let child = path.join(&name);
            if !hidden {
                self.visit(&child, below, depth + 1, found)?;
            } else if self.ignore.may_keep_below(&whole) && child.symlink_metadata()?.is_dir() {
                // The directory comes along with what is kept in it, and only then.
                let before = found.len();
                self.visit(&child, below, depth + 1, found)?;
                if found.len() == before + 1 {
                    found.truncate(before);
                }
            }
        }
        Ok(())
    }
}

/// Digest of all that COPY takes over: names, kinds, modes, contents, and owners where they are kept.
pub fn fingerprint(found: &[Found], with_owners: bool) -> io::Result<Digest> {
    let mut hash = Hashing::new(io::sink());
    for entry in found.iter().flat_map(|found| &found.entries) {
        use io::Write;
        let name = entry.below.as_os_str().as_encoded_bytes();
        write!(hash, "{}:", name.len())?;
        hash.write_all(name)?;
        write!(hash, ":{:o}", entry.metadata.mode() & 0o7777)?;
        if with_owners {
            write!(hash, ":{}:{}", entry.metadata.uid(), entry.metadata.gid())?;
        }
        match &entry.what {
            What::Directory => write!(hash, ":d")?,
            What::Link(target) => write!(hash, ":l{}:{}", target.as_os_str().len(), target.display())?,
            What::File => {
                write!(hash, ":f{}:", entry.metadata.len())?;
                io::copy(&mut File::open(&entry.path)?, &mut hash)?;
            }
        }
    }
    Ok(hash.finish().1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found) -> Vec<String> {
        found.entries.iter().map(|entry| entry.below.display().to_string()).collect()
    }

    #[test]
    fn what_is_ignored_is_not_found_and_links_lead_nowhere_outside() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["src/deep", "target/keep"] {
            std::fs::create_dir_all(at(name)).expect("a directory");
        }
        for name in ["src/a.rs", "src/deep/b.rs", "src/deep/c.tmp", "target/x", "target/keep/y"] {
            std::fs::write(at(name), name).expect("a file");
        }
        std::os::unix::fs::symlink("/etc", at("out")).expect("a link");
        let root = Root::open(directory.path()).expect("a root");
        let ignore = Ignore::parse("**/*.tmp\ntarget\n!target/keep\n").expect("patterns");
        let all = root.find("", &ignore, &Ignore::default()).expect("found");
        assert_eq!(
            names(&all),
            [
                "",
                "out",
                "src",
                "src/a.rs",
                "src/deep",
                "src/deep/b.rs",
                "target",
                "target/keep",
                "target/keep/y"
            ]
        );
        assert!(root.resolve("out/passwd", libc::O_PATH).is_err(), "there is no etc inside");
        assert_eq!(root.glob("s*/*.rs", &ignore).expect("found"), ["src/a.rs"]);
        let print = || fingerprint(&[root.find("src", &ignore, &Ignore::default()).expect("found")], false);
        let before = print().expect("read");
        std::fs::write(at("src/deep/c.tmp"), "changed").expect("a file");
        assert_eq!(print().expect("read"), before, "ignored files do not count");
        std::fs::write(at("src/a.rs"), "changed").expect("a file");
        assert_ne!(print().expect("read"), before);
    }
}
