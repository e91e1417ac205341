//! Fan-out of committed changes to watchers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::store::{Change, Error, Event, Result, Revision, WatchStream};

/// A watcher that leaves this many events unread is cut off, so that memory stays bounded.
const MAX_PENDING: usize = 65_536;

/// How often watchers hear how far the store has come while their own keys are quiet.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Watcher {
    prefix: Box<str>,
    sender: mpsc::UnboundedSender<Result<Event>>,
    pending: Arc<AtomicUsize>,
    /// What this watcher was last told the revision is.
    told: Revision,
}

impl Watcher {
    /// False when the watcher is gone or was cut off.
    fn send(&mut self, event: Event, revision: Revision) -> bool {
        if self.pending.fetch_add(1, Ordering::Relaxed) >= MAX_PENDING {
            // The queue itself is unbounded; the cut is this last message.
            let _receiver_may_be_gone = self.sender.send(Err(Error::Lagged(self.told)));
            return false;
        }
        self.told = revision;
        self.sender.send(Ok(event)).is_ok()
    }
}

/// All watchers of a store. Called under the store's write lock, so that each watcher's queue is in revision order.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    // A process has about one watcher per resource, and comparing a prefix costs a few nanoseconds: a list will do.
    watchers: Vec<Watcher>,
    closed: bool,
}

impl Hub {
    /// Adds a watcher that first hears `backlog`, then that it has caught up with `revision`.
    pub fn subscribe<'a>(
        &mut self,
        prefix: &str,
        backlog: impl Iterator<Item = &'a Change>,
        revision: Revision,
    ) -> Result<WatchStream> {
        if self.closed {
            return Err(Error::Closed);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let pending = Arc::new(AtomicUsize::new(0));
        let mut watcher =
            Watcher { prefix: prefix.into(), sender, pending: pending.clone(), told: Revision::default() };
        let missed = backlog.filter(|change| change.current.key.starts_with(prefix));
        let mut alive = true;
        for change in missed {
            alive = alive && watcher.send(Event::Change(change.clone()), change.current.mod_revision);
        }
        if alive && watcher.send(Event::Progress(revision), revision) {
            self.watchers.push(watcher);
        }
        let stream = UnboundedReceiverStream::new(receiver).inspect(move |_| {
            pending.fetch_sub(1, Ordering::Relaxed);
        });
        Ok(stream.boxed())
    }

    pub fn publish(&mut self, change: &Change) {
        let revision = change.current.mod_revision;
        self.watchers.retain_mut(|watcher| {
            !change.current.key.starts_with(&*watcher.prefix)
                || watcher.send(Event::Change(change.clone()), revision)
        });
    }

    /// Tells the watchers (of exactly this prefix, if one is given) that nothing up to `revision` is still to come.
    pub fn progress(&mut self, prefix: Option<&str>, revision: Revision) {
        self.watchers.retain_mut(|watcher| {
            let concerned = prefix.is_none_or(|p| p == &*watcher.prefix);
            if !concerned || (prefix.is_none() && watcher.told >= revision) {
                return !watcher.sender.is_closed();
            }
            watcher.send(Event::Progress(revision), revision)
        });
    }

    /// Ends every watch and refuses new ones.
    pub fn close(&mut self) {
        self.closed = true;
        self.watchers.clear();
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }
}
