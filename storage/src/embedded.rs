//! The default store: the memory engine over a journal that is on disk before a write is acknowledged.
//!
//! ```text
//!  put ──► channel ──► committer thread: decide ─► one durable transaction per batch ─► publish ─► answer
//!  get, range, watch ──► the shared state, which holds committed writes only
//! ```
//!
//! Writers that arrive while a transaction is being synced share the next one (group commit). What readers see has
//! been committed: a crash cannot take back what somebody already saw.

mod committer;
mod journal;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::shared::Shared;
use crate::state::Write;
use crate::store::{
    Durability, Error, Expect, KeyValue, Outcome, Range, RangeResult, Result, Revision, Store, WatchStream,
};
use committer::{Committer, Request};
use journal::Journal;

pub use snapshot::{SnapshotInfo, inspect_snapshot, restore_snapshot};

/// How the embedded store is laid out and bounded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of keys and values, superseded ones included, beyond which writes are refused (etcd's quota).
    pub max_bytes: u64,
    /// Bytes of the engine's page cache. Values are served from memory, so this only helps writing.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_bytes: 8 << 30, cache_bytes: 16 << 20 }
    }
}

/// A durable store in one file, `store.redb`, below a directory that it creates.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    path: PathBuf,
}

/// Writes a state to a new store file.
pub(crate) async fn write_snapshot(file: &Path, items: Vec<KeyValue>, revision: Revision) -> Result<()> {
    let file = file.to_owned();
    run_blocking("saving a snapshot", move || journal::write_snapshot(&file, &items, revision)).await
}

impl Embedded {
    /// Opens or creates the store and loads it into memory. One process at a time: a second one gets
    /// [`Error::InUse`].
    pub fn open(directory: &Path, options: &Options) -> Result<Self> {
        let path = directory.join("store.redb");
        let (journal, state) = Journal::open(&path, options.cache_bytes)?;
        let shared = Shared::new(state);
        let requests = Committer::start(journal, shared.clone(), options.max_bytes)?;
        Ok(Self { shared, requests, path })
    }

    /// Writes a consistent copy of the present state to a new file while the store goes on. The copy is a store
    /// file of its own with the same revision; the history before it is left out. A file that exists is left alone.
    pub async fn save_snapshot(&self, file: &Path) -> Result<Revision> {
        if file.exists() {
            let cause = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Error::unavailable("creating the snapshot", cause));
        }
        let all = self.shared.range(&Range::default())?;
        write_snapshot(file, all.items, all.revision).await?;
        Ok(all.revision)
    }

    /// The file that holds the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn write(&self, write: Write, durability: Durability) -> Result<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Write { write, durability, reply }).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

async fn run_blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| Error::unavailable(doing, cause))?
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision)> {
        self.shared.get(key)
    }

    async fn range(&self, range: Range) -> Result<RangeResult> {
        self.shared.range(&range)
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, durability: Durability) -> Result<Outcome> {
        self.write(Write { key: key.into(), value: Some(value), expect }, durability).await
    }

    async fn delete(&self, key: &str, expect: Expect, durability: Durability) -> Result<Outcome> {
        self.write(Write { key: key.into(), value: None, expect }, durability).await
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream> {
        self.shared.watch(prefix, after)
    }

    async fn request_progress(&self, prefix: &str) -> Result<()> {
        self.shared.request_progress(prefix);
        Ok(())
    }

    async fn revision(&self) -> Result<Revision> {
        self.shared.revision()
    }

    async fn compact(&self, below: Revision) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Compact { below, reply }).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn size(&self) -> Result<u64> {
        self.shared.bytes()
    }

    async fn close(&self) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).is_err() {
            return Ok(());
        }
        answer.await.map_err(|_| Error::Closed)?
    }
}
