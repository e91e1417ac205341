//! The sockets in a directory and those below it, and waiting for them to change.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::stream::{FuturesUnordered, StreamExt};

use crate::logs::notify::Watcher;

/// Deeper directories are not looked into.
const MAX_DEPTH: usize = 8;
/// More directories than anyone has plugins.
const MAX_DIRECTORIES: usize = 256;

/// Tells a socket from one that took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    inode: u64,
    /// Numbers of files are used again.
    made: SystemTime,
}

impl Identity {
    fn of(found: &Metadata) -> Self {
        // Where birth is not recorded the last change is the nearest: at worst a plugin registers twice.
        let changed = Duration::from_secs(u64::try_from(found.ctime()).unwrap_or_default());
        Self { inode: found.ino(), made: found.created().unwrap_or(SystemTime::UNIX_EPOCH + changed) }
    }
}

/// What was there when last looked, and watches on every directory that was looked into.
pub struct Sockets {
    pub found: BTreeMap<PathBuf, Identity>,
    watchers: Vec<Watcher>,
}

impl Sockets {
    /// Watches before it looks, so that nothing comes unseen.
    pub fn watch(directory: &Path) -> io::Result<Self> {
        let mut sockets = Self { found: BTreeMap::new(), watchers: Vec::new() };
        sockets.add(directory, 0)?;
        Ok(sockets)
    }

    fn add(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH || self.watchers.len() >= MAX_DIRECTORIES {
            return Ok(());
        }
        self.watchers.push(Watcher::new(directory)?);
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            // Whatever is gone by now shows as a change.
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            if found.file_type().is_socket() {
                self.found.insert(path, Identity::of(&found));
            } else if found.is_dir()
                && let Err(error) = self.add(&path, depth + 1)
            {
                tracing::debug!(directory = %path.display(), %error, "cannot look for plugins");
            }
        }
        Ok(())
    }

    /// Returns when something has changed since these sockets were found.
    pub async fn changed(&self) -> io::Result<()> {
        let mut waiting: FuturesUnordered<_> = self.watchers.iter().map(Watcher::changed).collect();
        waiting.next().await.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn sockets_are_found_however_deep_and_told_apart() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let empty = Sockets::watch(directory.path()).expect("watched");
        assert!(empty.found.is_empty());
        fs::create_dir(directory.path().join("deep")).expect("made");
        empty.changed().await.expect("seen");
        let path = directory.path().join("deep/reg.sock");
        fs::write(directory.path().join("file"), "").expect("written");
        let before = Sockets::watch(directory.path()).expect("watched");
        let _first = UnixListener::bind(&path).expect("bound");
        before.changed().await.expect("seen");
        let _hidden = UnixListener::bind(directory.path().join(".hidden.sock")).expect("bound");
        let first = Sockets::watch(directory.path()).expect("watched");
        assert_eq!(first.found.keys().collect::<Vec<_>>(), [&path]);
        fs::remove_file(&path).expect("removed");
        first.changed().await.expect("seen");
        assert!(Sockets::watch(directory.path()).expect("watched").found.is_empty());
    }
}
