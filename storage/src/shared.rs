//! What the in-process engines share: the state and its watchers behind one lock, and everything that only reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::state::{Overlay, State, Write};
use crate::store::{Change, Error, KeyValue, Outcome, Range, RangeResult, Result, Revision, WatchStream};
use crate::watch::{Hub, PROGRESS_INTERVAL};

#[derive(Debug, Default)]
struct Inner {
    state: State,
    hub: Hub,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    inner: RwLock<Inner>,
    ticking: AtomicBool,
}

impl Shared {
    pub fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            inner: RwLock::new(Inner { state, hub: Hub::default() }),
            ticking: AtomicBool::new(false),
        })
    }

    pub fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision)> {
        let inner = self.open()?;
        Ok((inner.state.get(key), inner.state.revision()))
    }

    pub fn range(&self, range: &Range) -> Result<RangeResult> {
        self.open()?.state.range(range)
    }

    pub fn revision(&self) -> Result<Revision> {
        Ok(self.open()?.state.revision())
    }

    pub fn bytes(&self) -> Result<u64> {
        Ok(self.open()?.state.bytes())
    }

    fn open(&self) -> Result<parking_lot::RwLockReadGuard<'_, Inner>> {
        let inner = self.inner.read();
        if inner.hub.is_closed() { Err(Error::Closed) } else { Ok(inner) }
    }

    /// Gives `look` the state as it stands, for deciding a batch of writes.
    pub fn with_state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.read().state)
    }

    /// Makes decided changes visible and tells the watchers.
    pub fn commit(&self, changes: impl IntoIterator<Item = Change>) {
        let mut inner = self.inner.write();
        for change in changes {
            inner.hub.publish(&change);
            inner.state.apply(change);
        }
    }

    /// Decides and commits one write at once, for a store without a journal.
    pub fn write(&self, write: &Write) -> Result<Outcome> {
        let mut inner = self.inner.write();
        if inner.hub.is_closed() {
            return Err(Error::Closed);
        }
        let next = Revision(inner.state.revision().0 + 1);
        match inner.state.decide(&Overlay::new(), write, next) {
            Err(present) => Ok(Outcome::Conflict(present)),
            Ok(change) => {
                inner.hub.publish(&change);
                let outcome = Outcome::Committed(change.current.clone());
                inner.state.apply(change);
                Ok(outcome)
            }
        }
    }

    pub fn compact(&self, below: Revision) -> Vec<Revision> {
        self.inner.write().state.compact(below)
    }

    pub fn watch(self: &Arc<Self>, prefix: &str, after: Option<Revision>) -> Result<WatchStream> {
        let stream = {
            let mut inner = self.inner.write();
            let Inner { state, hub } = &mut *inner;
            let revision = state.revision();
            hub.subscribe(prefix, state.changes_after(after.unwrap_or(revision))?, revision)?
        };
        self.tick();
        Ok(stream)
    }

    pub fn request_progress(&self, prefix: &str) {
        let mut inner = self.inner.write();
        let revision = inner.state.revision();
        inner.hub.progress(Some(prefix), revision);
    }

    pub fn close(&self) {
        self.inner.write().hub.close();
    }

    /// One timer for all watchers, started with the first of them; it ends with the store.
    fn tick(self: &Arc<Self>) {
        if self.ticking.swap(true, Ordering::Relaxed) {
            return;
        }
        let shared = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                let Some(shared) = shared.upgrade() else { return };
                let mut inner = shared.inner.write();
                if inner.hub.is_closed() {
                    return;
                }
                let revision = inner.state.revision();
                inner.hub.progress(None, revision);
            }
        });
    }
}
