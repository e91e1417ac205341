//! A store that encrypts what the rules name on its way in, and decrypts it on its way out.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use knarr_storage::{
    Change, Durability, Error, Event, Expect, KeyValue, Outcome, Range, RangeResult, Result, Revision, Store,
    WatchStream,
};

use super::provider::{ENCRYPTED, Unreadable};
use super::rules::Rules;

/// Everything but values goes through unchanged.
///
/// A value that cannot be decrypted fails a `get`. Ranges and watches hand it over as it is stored, so that one
/// lost key does not hide the rest; whoever parses it fails, and learns why from `get`.
pub struct Encrypted {
    inner: Arc<dyn Store>,
    rules: Arc<ArcSwap<Rules>>,
}

impl Encrypted {
    pub(super) fn new(inner: Arc<dyn Store>, rules: Arc<ArcSwap<Rules>>) -> Self {
        Self { inner, rules }
    }

    fn seal(&self, key: &str, plain: &Bytes) -> Result<Bytes> {
        match self.rules.load().of(key) {
            Some(chain) => chain.seal(plain, key.as_bytes()).map_err(|why| unreadable(key, why)),
            None => Ok(plain.clone()),
        }
    }

    fn open(&self, kv: KeyValue) -> Result<KeyValue> {
        let (value, _stale) = open(&self.rules.load(), &kv).map_err(|why| unreadable(&kv.key, why))?;
        Ok(KeyValue { value, ..kv })
    }
}

fn open(rules: &Rules, kv: &KeyValue) -> Result<(Bytes, bool), Unreadable> {
    match rules.of(&kv.key) {
        Some(chain) => chain.open(&kv.value, kv.key.as_bytes()),
        None if kv.value.starts_with(ENCRYPTED) => Err(Unreadable::Encrypted),
        None => Ok((kv.value.clone(), false)),
    }
}

/// The value if it can be read, and the stored bytes if not.
fn open_or_keep(rules: &Rules, kv: KeyValue) -> KeyValue {
    match open(rules, &kv) {
        Ok((value, _stale)) => KeyValue { value, ..kv },
        Err(why) => {
            tracing::error!(key = &*kv.key, %why, "failed to decrypt data");
            kv
        }
    }
}

fn unreadable(key: &str, why: Unreadable) -> Error {
    Error::Unreadable { key: key.to_owned(), cause: Arc::new(why) }
}

#[async_trait]
impl Store for Encrypted {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision)> {
        let (found, revision) = self.inner.get(key).await?;
        Ok((found.map(|kv| self.open(kv)).transpose()?, revision))
    }

    async fn range(&self, range: Range) -> Result<RangeResult> {
        let mut result = self.inner.range(range).await?;
        let rules = self.rules.load();
        result.items = result.items.into_iter().map(|kv| open_or_keep(&rules, kv)).collect();
        Ok(result)
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, durability: Durability) -> Result<Outcome> {
        let sealed = self.seal(key, &value)?;
        Ok(match self.inner.put(key, sealed, expect, durability).await? {
            Outcome::Committed(kv) => Outcome::Committed(KeyValue { value, ..kv }),
            Outcome::Conflict(found) => Outcome::Conflict(found.map(|kv| self.open(kv)).transpose()?),
        })
    }

    async fn delete(&self, key: &str, expect: Expect, durability: Durability) -> Result<Outcome> {
        let rules = self.rules.load();
        // What cannot be read can still be deleted.
        Ok(match self.inner.delete(key, expect, durability).await? {
            Outcome::Committed(kv) => Outcome::Committed(open_or_keep(&rules, kv)),
            Outcome::Conflict(found) => Outcome::Conflict(found.map(|kv| open_or_keep(&rules, kv))),
        })
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream> {
        let events = self.inner.watch(prefix, after).await?;
        let rules = self.rules.clone();
        let opened = events.map(move |event| {
            let rules = rules.load();
            Ok(match event? {
                Event::Change(Change { kind, current, previous }) => Event::Change(Change {
                    kind,
                    current: open_or_keep(&rules, current),
                    previous: previous.map(|kv| open_or_keep(&rules, kv)),
                }),
                progress @ Event::Progress(_) => progress,
            })
        });
        Ok(opened.boxed())
    }

    async fn request_progress(&self, prefix: &str) -> Result<()> {
        self.inner.request_progress(prefix).await
    }

    async fn revision(&self) -> Result<Revision> {
        self.inner.revision().await
    }

    async fn compact(&self, below: Revision) -> Result<()> {
        self.inner.compact(below).await
    }

    async fn size(&self) -> Result<u64> {
        self.inner.size().await
    }

    /// Whether the key's value is encrypted with the first key of the first provider.
    async fn is_current(&self, key: &str) -> Result<bool> {
        let (found, _) = self.inner.get(key).await?;
        Ok(match found {
            Some(kv) => !open(&self.rules.load(), &kv).map_err(|why| unreadable(key, why))?.1,
            None => true,
        })
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
