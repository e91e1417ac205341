//! From one store to another, with proof that nothing was lost on the way.

use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::embedded::write_snapshot;
use crate::store::{Durability, Error, Expect, KeyValue, Outcome, Range, Revision, Store};

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub keys: usize,
    /// SHA-256 over keys and values: the same in both stores.
    pub hash: [u8; 32],
    /// The revision that the source was read at.
    pub revision: Revision,
}

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the store to copy to holds {keys} keys already")]
    NotEmpty { keys: usize },
    #[error("someone else writes {key} to the store that is copied to")]
    Contended { key: String },
    #[error("the copy does not have the same keys and values")]
    Differs,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Copies everything to an empty store, in the order it was written. Revisions are the new store's own.
pub async fn copy(from: &dyn Store, to: &dyn Store) -> Result<Copied, MigrateError> {
    let found = to.range(Range { limit: 1, ..Range::default() }).await?;
    if !found.items.is_empty() {
        return Err(MigrateError::NotEmpty { keys: found.items.len() + found.remaining });
    }
    let source = from.range(Range::default()).await?;
    let copied = Copied { keys: source.items.len(), hash: content(&source.items), revision: source.revision };
    let mut items: Vec<&KeyValue> = source.items.iter().collect();
    items.sort_by_key(|kv| kv.mod_revision);
    for kv in items {
        let value: Bytes = kv.value.clone();
        match to.put(&kv.key, value, Expect::Absent, Durability::Durable).await? {
            Outcome::Committed(_) => {}
            Outcome::Conflict(_) => return Err(MigrateError::Contended { key: kv.key.to_string() }),
        }
    }
    let target = to.range(Range::default()).await?;
    if content(&target.items) == copied.hash { Ok(copied) } else { Err(MigrateError::Differs) }
}

/// Saves everything to a new snapshot of an embedded store, with the revisions that it has.
pub async fn save(from: &dyn Store, file: &Path) -> Result<Copied, MigrateError> {
    let source = from.range(Range::default()).await?;
    let (keys, hash, revision) = (source.items.len(), content(&source.items), source.revision);
    write_snapshot(file, source.items, revision).await?;
    Ok(Copied { keys, hash, revision })
}

/// Keys and values, in the order of keys.
fn content(items: &[KeyValue]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for kv in items {
        for part in [kv.key.as_bytes(), &kv.value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Embedded, Memory, Options, restore_snapshot};

    async fn source() -> Memory {
        let store = Memory::new();
        for (key, value) in [("/registry/b", "1"), ("/registry/a", "2"), ("/registry/gone", "3")] {
            store.put(key, value.into(), Expect::Absent, Durability::Durable).await.expect("put");
        }
        store.delete("/registry/gone", Expect::At(Revision(3)), Durability::Durable).await.expect("delete");
        store
    }

    #[tokio::test]
    async fn a_copy_has_the_same_keys_and_values_in_the_order_they_were_written() {
        let (from, to) = (source().await, Memory::new());
        let copied = copy(&from, &to).await.expect("copies");
        assert_eq!((copied.keys, copied.revision), (2, Revision(4)));
        let (b, _) = to.get("/registry/b").await.expect("get");
        assert_eq!(b.map(|kv| (kv.value, kv.mod_revision)), Some(("1".into(), Revision(1))));
        let again = copy(&from, &to).await;
        assert!(matches!(again, Err(MigrateError::NotEmpty { keys: 2 })), "{again:?}");
    }

    #[tokio::test]
    async fn what_is_saved_for_the_embedded_store_keeps_its_revisions() {
        let (from, directory) = (source().await, tempfile::tempdir().expect("a directory"));
        let file = directory.path().join("saved");
        save(&from, &file).await.expect("saves");
        let place = directory.path().join("store");
        restore_snapshot(&file, &place).expect("restores");
        let store = Embedded::open(&place, &Options::default()).expect("opens");
        let expected = from.range(Range::default()).await.expect("range").items;
        let found = store.range(Range::default()).await.expect("range");
        assert_eq!((found.items, found.revision), (expected, Revision(4)));
    }
}
