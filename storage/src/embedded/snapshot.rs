//! Snapshots: files that hold the store's state at one revision, and are store files themselves.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::journal;
use crate::store::{Error, Range, Result, Revision};

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The newest revision in it.
    pub revision: Revision,
    pub keys: usize,
    /// Of keys and values.
    pub bytes: u64,
    /// SHA-256 over keys, values and their revisions: the same for the same state.
    pub hash: [u8; 32],
}

/// Reads a snapshot and says what is in it.
///
/// Errors: there is no such file, it is no snapshot, or a store that is running has it open.
pub fn inspect_snapshot(file: &Path) -> Result<SnapshotInfo> {
    let state = journal::read(file)?;
    let all = state.range(&Range::default())?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    for kv in &all.items {
        for part in [kv.key.as_bytes(), &kv.value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
            bytes += part.len() as u64;
        }
        hash.update(kv.create_revision.0.to_be_bytes());
        hash.update(kv.mod_revision.0.to_be_bytes());
    }
    Ok(SnapshotInfo { revision: all.revision, keys: all.items.len(), bytes, hash: hash.finalize().into() })
}

/// Puts a snapshot in the place of the store in a directory, in one step: before it the old store is there, after
/// it the new one. No store may be running there. What was there is kept beside it as `store.redb.before-restore`.
pub fn restore_snapshot(file: &Path, directory: &Path) -> Result<SnapshotInfo> {
    let failed = |doing| move |cause: io::Error| Error::unavailable(doing, cause);
    let info = inspect_snapshot(file)?;
    std::fs::create_dir_all(directory).map_err(failed("creating the store's directory"))?;
    let (store, fresh) = (directory.join("store.redb"), directory.join("store.redb.restoring"));
    std::fs::copy(file, &fresh).map_err(failed("copying the snapshot"))?;
    owner_only(&fresh).map_err(failed("copying the snapshot"))?;
    // The copy is what counts: it is looked at again before it takes the store's place.
    if inspect_snapshot(&fresh)? != info {
        let cause = io::Error::other("the copy differs from the snapshot");
        return Err(Error::unavailable("copying the snapshot", cause));
    }
    match std::fs::rename(&store, directory.join("store.redb.before-restore")) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(Error::unavailable("keeping the old store", cause));
        }
        _ => {}
    }
    std::fs::rename(&fresh, &store).map_err(failed("putting the snapshot in place"))?;
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("syncing the store's directory"))?;
    Ok(info)
}

fn owner_only(file: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?;
    File::open(file)?.sync_all()
}
