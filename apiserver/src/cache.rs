//! The watch cache: every object once, as its stored bytes, fed by one watch on the store.
//!
//! One watch for all resources means that every write, to whatever resource, tells how far the cache is. A read
//! that must be consistent asks the store for its revision and waits until the cache has passed it
//! ([`WatchCache::catch_up`]), which is a matter of microseconds.

mod entry;
mod event;
mod extract;
mod resource;
mod selection;
mod watchers;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use knarr_storage::{Change, Error, Event as StoreEvent, Range, Revision, Store};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use entry::Entry;
pub use event::{Event, EventType, States, encode_event};
pub use extract::Extractor;
pub use resource::{ResourceCache, Snapshot, Subscription, TooOld};
pub use selection::{FieldSource, FieldTerm, Selection};
pub use watchers::Delivery;

/// The root of everything the API server stores.
pub const ROOT: &str = "/registry/";

/// How long a read waits for the cache to pass a revision.
const CATCH_UP: Duration = Duration::from_secs(3);
/// How long the store usually takes to tell of a write; then it is asked.
const PROMPT: Duration = Duration::from_millis(100);
/// How often watchers that asked for bookmarks get one.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// How long to wait before the store is asked again after it failed.
const RETRY: Duration = Duration::from_millis(500);

pub struct WatchCache {
    store: Arc<dyn Store>,
    resources: RwLock<HashMap<Box<str>, Arc<ResourceCache>>>,
    /// Caches that are no longer in `resources`. Requests that began before may still read from them, and must not
    /// read what is old, so they are fed for as long as anyone holds them.
    leaving: RwLock<Vec<Weak<ResourceCache>>>,
    /// The newest revision that every resource has applied.
    progress: watch::Sender<u64>,
}

/// The cache did not get as far as was asked within the time a read waits.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the watch cache is at revision {current}, not yet at {wanted}")]
pub struct Behind {
    pub wanted: u64,
    pub current: u64,
}

impl WatchCache {
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        let (resources, leaving) = (RwLock::default(), RwLock::default());
        Arc::new(Self { store, resources, leaving, progress: watch::Sender::new(0) })
    }

    /// The newest revision that is known to be applied.
    pub fn revision(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Waits until everything up to the revision is in the cache.
    pub async fn wait_for(&self, wanted: u64) -> Result<(), Behind> {
        if self.revision() >= wanted {
            return Ok(());
        }
        let mut progress = self.progress.subscribe();
        for patience in [PROMPT, CATCH_UP] {
            let reached = progress.wait_for(|revision| *revision >= wanted);
            if matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_))) {
                return Ok(());
            }
            // Others may have written to the store what the watch here does not hear of.
            if let Err(error) = self.store.request_progress(ROOT).await {
                tracing::debug!(%error, "the store cannot be asked how far the watch is");
            }
        }
        Err(Behind { wanted, current: self.revision() })
    }

    /// Adds a resource and reads what is stored of it. Adding a known prefix gives the cache that is there.
    pub async fn add(&self, prefix: &str, extractor: Extractor) -> Result<Arc<ResourceCache>, Error> {
        let cache = Arc::new(ResourceCache::new(prefix, extractor));
        let known = self.resources.write().entry(prefix.into()).or_insert_with(|| cache.clone()).clone();
        if Arc::ptr_eq(&known, &cache) {
            self.load(&cache).await?;
        }
        Ok(known)
    }

    /// As [`WatchCache::add`], with a cache of its own also where the prefix is known. The one before lives on until
    /// nobody holds it; its watches are its owner's to end ([`ResourceCache::retire`]).
    pub async fn replace(&self, prefix: &str, extractor: Extractor) -> Result<Arc<ResourceCache>, Error> {
        let cache = Arc::new(ResourceCache::new(prefix, extractor));
        let known = self.resources.write().insert(prefix.into(), cache.clone());
        self.see_off(known.as_ref());
        self.load(&cache).await?;
        Ok(cache)
    }

    /// Forgets a resource and ends its watches.
    pub fn remove(&self, prefix: &str) {
        let known = self.resources.write().remove(prefix);
        self.see_off(known.as_ref());
        if let Some(cache) = known {
            cache.retire();
        }
    }

    fn see_off(&self, cache: Option<&Arc<ResourceCache>>) {
        let mut leaving = self.leaving.write();
        leaving.retain(|cache| cache.strong_count() > 0);
        leaving.extend(cache.map(Arc::downgrade));
    }

    async fn load(&self, cache: &ResourceCache) -> Result<(), Error> {
        let range = Range { prefix: cache.prefix().to_owned(), ..Range::default() };
        let result = self.store.range(range).await?;
        cache.finish_load(&result.items, result.revision.0);
        Ok(())
    }

    /// Begins to follow the store; `add` may be called before and after. The task ends with `stop`.
    pub async fn start(
        self: &Arc<Self>,
        stop: CancellationToken,
    ) -> Result<tokio::task::JoinHandle<()>, Error> {
        let revision = self.store.revision().await?;
        let events = self.store.watch(ROOT, Some(revision)).await?;
        self.progress.send_replace(revision.0);
        let cache = self.clone();
        Ok(tokio::spawn(async move { cache.follow(events, stop).await }))
    }

    async fn follow(self: Arc<Self>, mut events: knarr_storage::WatchStream, stop: CancellationToken) {
        let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
        loop {
            let failure = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = events.next() => match event {
                    Some(Ok(event)) => { self.take(event); None }
                    Some(Err(error)) => Some(error),
                    None => Some(Error::Closed),
                },
                _ = bookmarks.tick() => { self.bookmark(); None }
            };
            let Some(error) = failure else { continue };
            tracing::warn!(%error, "the watch on the store ended: reading everything again");
            tokio::select! {
                () = stop.cancelled() => break,
                again = self.begin_again() => events = again,
            }
        }
        self.end_watches();
    }

    fn take(&self, event: StoreEvent) {
        let revision = match event {
            StoreEvent::Change(change) => {
                let revision = change.current.mod_revision;
                self.apply(change);
                revision
            }
            StoreEvent::Progress(revision) => revision,
        };
        self.progress.send_if_modified(|known| {
            let newer = revision.0 > *known;
            *known = revision.0.max(*known);
            newer
        });
    }

    fn apply(&self, change: Change) {
        for cache in self.leaving.read().iter().filter_map(Weak::upgrade) {
            if change.current.key.starts_with(cache.prefix()) {
                cache.apply(change.clone());
            }
        }
        let resource = self.find(&change.current.key);
        if let Some(resource) = resource {
            resource.apply(change);
        }
    }

    /// The resource whose prefix the key has: `/registry/pods/` or `/registry/example.com/widgets/`.
    fn find(&self, key: &str) -> Option<Arc<ResourceCache>> {
        let resources = self.resources.read();
        let rest = key.strip_prefix(ROOT)?;
        let first = ROOT.len() + rest.find('/')? + 1;
        let second = key[first..].find('/').map(|at| first + at + 1);
        second.and_then(|end| resources.get(&key[..end])).or_else(|| resources.get(&key[..first])).cloned()
    }

    /// Whether every resource has been read; not so while the store is read anew after it was lost.
    pub fn is_loaded(&self) -> bool {
        self.resources.read().values().all(|resource| resource.is_loaded())
    }

    fn all(&self) -> Vec<Arc<ResourceCache>> {
        let leaving = self.leaving.read().iter().filter_map(Weak::upgrade).collect::<Vec<_>>();
        self.resources.read().values().cloned().chain(leaving).collect()
    }

    fn bookmark(&self) {
        let revision = self.revision();
        for resource in self.all() {
            resource.bookmark(revision);
        }
    }

    /// Ends all watches; their clients come back or give up.
    pub fn end_watches(&self) {
        for resource in self.all() {
            resource.end_watches();
        }
    }

    /// Watches from the present and reads every resource again, as often as it takes.
    async fn begin_again(&self) -> knarr_storage::WatchStream {
        loop {
            match self.try_begin_again().await {
                Ok(events) => return events,
                Err(error) => tracing::warn!(%error, "the store cannot be read"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_begin_again(&self) -> Result<knarr_storage::WatchStream, Error> {
        let revision: Revision = self.store.revision().await?;
        let events = self.store.watch(ROOT, Some(revision)).await?;
        for resource in self.all() {
            resource.begin_load();
            self.load(&resource).await?;
        }
        self.progress.send_replace(revision.0);
        Ok(events)
    }
}
