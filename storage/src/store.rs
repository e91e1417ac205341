//! The contract that every engine keeps, and that `tests/` checks for each of them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A point in the store's history. 0 means "before the first write".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One key as it stands at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Arc<str>,
    pub value: Bytes,
    /// The revision that created the key (the last time it came into being).
    pub create_revision: Revision,
    /// The revision that last wrote it.
    pub mod_revision: Revision,
}

/// What the writer believes about the key; the write commits only if that is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this revision.
    At(Revision),
}

/// How sure a write must be before it is acknowledged. Every class is consistent and ordered; they differ only
/// in what a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// On stable storage before the call returns.
    #[default]
    Durable,
    /// Written with the next durable batch or within a second: for Leases and Events.
    Batched,
}

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed; the key as it now stands (for a delete: as it last stood, `mod_revision` being the delete's).
    Committed(KeyValue),
    /// The expectation did not hold; the key as it stands, `None` where there is none.
    Conflict(Option<KeyValue>),
}

/// A request for the keys that start with `prefix`, in byte order.
#[derive(Debug, Clone, Default)]
pub struct Range {
    pub prefix: String,
    /// Only keys strictly greater than this one.
    pub start_after: Option<String>,
    /// At most this many keys; 0 means all.
    pub limit: usize,
    /// The state at this revision; `None` means now.
    pub revision: Option<Revision>,
}

#[derive(Debug, Clone)]
pub struct RangeResult {
    pub items: Vec<KeyValue>,
    /// Keys in the range after the last one returned; 0 when the range is complete.
    pub remaining: usize,
    /// The revision the answer is true at.
    pub revision: Revision,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Created,
    Modified,
    Deleted,
}

/// One committed write.
#[derive(Debug, Clone)]
pub struct Change {
    pub kind: EventKind,
    /// The key after the write; for a delete, the last value with the delete's own `mod_revision`.
    pub current: KeyValue,
    /// The key before the write; `None` for a creation, and where the history before it is compacted away.
    pub previous: Option<KeyValue>,
}

/// What a watch delivers, in revision order, without gaps.
#[derive(Debug, Clone)]
pub enum Event {
    Change(Change),
    /// Everything up to and including this revision has been delivered; sent when nothing else was for a while
    /// (about every five seconds) and once when the watcher has caught up with the present.
    Progress(Revision),
}

pub type WatchStream = BoxStream<'static, Result<Event>>;
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The asked revision is older than what is kept: list again.
    #[error("revision {requested} is compacted away: the oldest kept is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    /// The asked revision has not happened yet.
    #[error("revision {requested} is in the future: the store is at {current}")]
    Future { requested: Revision, current: Revision },
    /// The watcher did not read for so long that its events were dropped: list again.
    #[error("the watcher fell behind and was cut off at revision {0}")]
    Lagged(Revision),
    /// The store would grow beyond its configured size: writes are refused until something is deleted and compacted.
    #[error("the store is full: {used} of {limit} bytes")]
    NoSpace { used: u64, limit: u64 },
    /// Another process holds the data directory.
    #[error("{path} is in use by another process")]
    InUse { path: String },
    /// The engine or the way to it failed; the write may or may not have happened.
    #[error("store unavailable while {doing}: {cause}")]
    Unavailable { doing: &'static str, cause: Arc<dyn std::error::Error + Send + Sync> },
    /// The key's value is there, and cannot be decoded.
    #[error("{cause}")]
    Unreadable { key: String, cause: Arc<dyn std::error::Error + Send + Sync> },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn unavailable(
        doing: &'static str,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable { doing, cause: Arc::new(cause) }
    }
}

/// A consistent, ordered, watchable map from keys to bytes.
///
/// Guarantees: reads without a revision see every write acknowledged before they began; revisions are dense and
/// global; a watch from revision R delivers every change with a revision greater than R exactly once, in order.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The key as it stands, and the revision at which that is true.
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision)>;

    /// A consistent view of a key range.
    async fn range(&self, range: Range) -> Result<RangeResult>;

    /// Writes if `expect` holds. A conflict is an outcome, not an error.
    async fn put(&self, key: &str, value: Bytes, expect: Expect, durability: Durability) -> Result<Outcome>;

    /// Deletes if `expect` holds. `Expect::Absent` always conflicts.
    async fn delete(&self, key: &str, expect: Expect, durability: Durability) -> Result<Outcome>;

    /// Every change after `after` to keys with this prefix; `None` starts at the present.
    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream>;

    /// Asks that the watchers of exactly this prefix hear a [`Event::Progress`] now: how a cache learns that it has
    /// seen everything there is.
    async fn request_progress(&self, prefix: &str) -> Result<()>;

    /// The newest committed revision.
    async fn revision(&self) -> Result<Revision>;

    /// Forgets superseded values below this revision. The newest value of each key is always kept.
    async fn compact(&self, below: Revision) -> Result<()>;

    /// Bytes used, for metrics and for the limit.
    async fn size(&self) -> Result<u64>;

    /// Whether writing the key's value again would store the same bytes: a store that encodes values answers no for
    /// those in an older encoding.
    async fn is_current(&self, key: &str) -> Result<bool> {
        let _ = key;
        Ok(true)
    }

    /// Finishes what was acknowledged, ends watches and refuses what comes after.
    async fn close(&self) -> Result<()>;
}
