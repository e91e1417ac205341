//! Disk usage of directories.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes on disk and inodes below a directory, hard links once, without other file systems mounted there. Files
/// that vanish meanwhile do not count.
pub fn directory_usage(root: &Path) -> io::Result<(u64, u64)> {
    let device = match std::fs::symlink_metadata(root) {
        Ok(metadata) => metadata.dev(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        Err(error) => return Err(error),
    };
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    let (mut bytes, mut inodes) = (0, 0);
    let mut linked = HashSet::new();
    while let Some(path) = pending.pop() {
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            pending.extend(entries.flatten().map(|entry| entry.path()));
        } else if metadata.nlink() > 1 && !linked.insert(metadata.ino()) {
            continue;
        }
        bytes += metadata.blocks() * 512;
        inodes += 1;
    }
    Ok((bytes, inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_link_counts_once() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a"), vec![1; 10_000]).expect("a file");
        let once = directory_usage(directory.path()).expect("usage");
        std::fs::hard_link(directory.path().join("a"), directory.path().join("b")).expect("a link");
        assert_eq!(directory_usage(directory.path()).expect("usage"), once);
        assert_eq!(directory_usage(&directory.path().join("none")).expect("usage"), (0, 0));
    }
}
