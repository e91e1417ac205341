//! All objects of one resource, the recent changes to them, and who wants to hear of the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use knarr_storage::{Change, EventKind, KeyValue};
use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::entry::Entry;
use super::event::Event;
use super::extract::Extractor;
use super::selection::Selection;
use super::watchers::{Delivery, Ticket, Watchers};

/// How long changes are kept for watches that start in the past, beyond [`WINDOW_MIN`].
const WINDOW_AGE: Duration = Duration::from_secs(75);
const WINDOW_MIN: usize = 100;
const WINDOW_MAX: usize = 100_000;

/// The watch cache of one resource. Cheap to share; all methods are quick and none waits.
#[derive(Debug)]
pub struct ResourceCache {
    prefix: Box<str>,
    extractor: Extractor,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Changes that came while the first list was being read; `None` once it is in.
    pending: Option<Vec<Change>>,
    objects: BTreeMap<Arc<str>, Arc<Entry>>,
    /// Keys whose values are no objects, or cannot be decrypted: lists that should show them fail.
    unreadable: BTreeSet<Arc<str>>,
    window: VecDeque<(Instant, Arc<Event>)>,
    /// The window holds every change after this revision.
    floor: u64,
    /// Everything up to this revision is in.
    revision: u64,
    watchers: Watchers,
    /// Watches end as soon as they begin.
    retired: bool,
}

/// A consistent view of some of the objects.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub entries: Vec<Arc<Entry>>,
    pub revision: u64,
}

/// The start revision of a watch is older than what is kept.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct TooOld {
    pub requested: u64,
    pub oldest: u64,
}

/// A running watch; dropping it leaves the cache.
#[derive(Debug)]
pub struct Subscription {
    cache: Arc<ResourceCache>,
    ticket: Ticket,
    pub events: mpsc::Receiver<Delivery>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.state.write().watchers.remove(&self.ticket);
    }
}

impl ResourceCache {
    /// `prefix` is where the resource's objects lie in the store, with a closing slash.
    pub fn new(prefix: &str, extractor: Extractor) -> Self {
        let state = State { pending: Some(Vec::new()), ..State::default() };
        Self { prefix: prefix.into(), extractor, state: RwLock::new(state) }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Reads an object of this resource that did not come from the cache.
    pub fn entry(&self, kv: &KeyValue) -> Result<Entry, crate::stored::Corrupt> {
        Entry::new(kv, &self.prefix, &self.extractor)
    }

    /// Begins to collect changes for a list that is about to be read. What was there before can be read until then;
    /// its watches end.
    pub(super) fn begin_load(&self) {
        let mut state = self.state.write();
        state.pending = Some(Vec::new());
        state.watchers.clear();
    }

    /// Puts in the list as of `revision`, and the changes that came meanwhile.
    pub(super) fn finish_load(&self, items: &[KeyValue], revision: u64) {
        let (mut objects, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for kv in items {
            match self.read(kv) {
                Some(entry) => drop(objects.insert(entry.key().clone(), entry)),
                None => drop(unreadable.insert(kv.key.clone())),
            }
        }
        let mut state = self.state.write();
        (state.objects, state.unreadable) = (objects, unreadable);
        state.window.clear();
        state.floor = revision;
        state.revision = revision;
        for change in state.pending.take().unwrap_or_default() {
            self.apply_to(&mut state, change);
        }
    }

    fn read(&self, kv: &KeyValue) -> Option<Arc<Entry>> {
        match self.entry(kv) {
            Ok(entry) => Some(Arc::new(entry)),
            Err(error) => {
                tracing::error!(key = &*kv.key, %error, "an object cannot be read");
                None
            }
        }
    }

    /// Takes in one committed change and hands it to the watchers.
    pub(super) fn apply(&self, change: Change) {
        let mut state = self.state.write();
        match &mut state.pending {
            Some(pending) => pending.push(change),
            None => self.apply_to(&mut state, change),
        }
    }

    fn apply_to(&self, state: &mut State, change: Change) {
        let revision = change.current.mod_revision.0;
        if revision <= state.revision {
            return;
        }
        state.revision = revision;
        state.unreadable.remove(&change.current.key);
        let (current, previous) = match change.kind {
            EventKind::Deleted => (None, state.objects.remove(&change.current.key)),
            EventKind::Created | EventKind::Modified => match self.read(&change.current) {
                Some(entry) => {
                    let previous = state.objects.insert(entry.key().clone(), entry.clone());
                    (Some(entry), previous)
                }
                None => {
                    state.unreadable.insert(change.current.key.clone());
                    (None, state.objects.remove(&change.current.key))
                }
            },
        };
        if current.is_none() && previous.is_none() {
            return;
        }
        let event = Arc::new(Event::new(revision, current, previous));
        state.remember(event.clone());
        state.watchers.dispatch(&event);
    }

    /// Sends bookmarks to who wants them; `revision` is known to have been applied.
    pub(super) fn bookmark(&self, revision: u64) {
        let mut state = self.state.write();
        if state.pending.is_none() {
            state.revision = state.revision.max(revision);
            let revision = state.revision;
            state.watchers.bookmark(revision);
        }
    }

    /// Whether the first list is in.
    pub fn is_loaded(&self) -> bool {
        self.state.read().pending.is_none()
    }

    /// The object at this key.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).cloned()
    }

    /// The keys that the selection may want and that could not be read.
    pub fn unreadable(&self, selection: &Selection) -> Vec<Arc<str>> {
        let state = self.state.read();
        let wanted = |key: &&Arc<str>| {
            let path = &key[self.prefix.len()..];
            let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
            (selection.namespace.is_empty() || *selection.namespace == *namespace)
                && (selection.name.is_empty() || *selection.name == *name)
        };
        state.unreadable.iter().filter(wanted).cloned().collect()
    }

    /// Whether the key's value is there and could not be read.
    pub fn is_unreadable(&self, key: &str) -> bool {
        self.state.read().unreadable.contains(key)
    }

    /// Takes in an object that could not be read before.
    pub fn reread(&self, kv: &KeyValue) -> Result<(), crate::stored::Corrupt> {
        let entry = Arc::new(self.entry(kv)?);
        let mut state = self.state.write();
        // A change that came meanwhile has settled it already.
        if state.unreadable.remove(&kv.key) {
            state.objects.insert(entry.key().clone(), entry);
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn watchers(&self) -> usize {
        self.state.read().watchers.len()
    }

    /// What the selection wants, in key order. `now` is a revision that the caller knows to have been applied.
    pub fn snapshot(&self, selection: &Selection, now: u64) -> Snapshot {
        let state = self.state.read();
        Snapshot { entries: self.select(&state, selection), revision: state.revision.max(now) }
    }

    fn select(&self, state: &State, selection: &Selection) -> Vec<Arc<Entry>> {
        let one = match (&*selection.namespace, &*selection.name) {
            (_, "") => None,
            ("", name) => selection.cluster_scoped.then(|| format!("{}{name}", self.prefix)),
            (namespace, name) => Some(format!("{}{namespace}/{name}", self.prefix)),
        };
        if let Some(key) = one {
            return state
                .objects
                .get(&*key)
                .filter(|entry| selection.matches(entry))
                .cloned()
                .into_iter()
                .collect();
        }
        let prefix = match &*selection.namespace {
            "" => self.prefix.to_string(),
            namespace => format!("{}{namespace}/", self.prefix),
        };
        let from = (Bound::Included(&*prefix), Bound::Unbounded);
        let range = state.objects.range::<str, _>(from).take_while(|(key, _)| key.starts_with(&prefix));
        range.map(|(_, entry)| entry).filter(|entry| selection.matches(entry)).cloned().collect()
    }

    /// Every change after a revision: those already known at once, and then the ones to come.
    pub fn watch_after(
        self: &Arc<Self>,
        selection: Arc<Selection>,
        after: u64,
        bookmarks: bool,
    ) -> Result<(Vec<Delivery>, Subscription), TooOld> {
        let mut state = self.state.write();
        if after < state.floor {
            return Err(TooOld { requested: after, oldest: state.floor + 1 });
        }
        let begin = state.window.partition_point(|(_, event)| event.revision <= after);
        let known = state.window.range(begin..).filter_map(|(_, event)| {
            let kind = event.seen_through(|entry| selection.matches(entry))?;
            Some(Delivery::Event(kind, event.clone()))
        });
        let known = known.collect();
        let seen = after.max(state.revision);
        Ok((known, self.subscribe(&mut state, selection, seen, bookmarks)))
    }

    /// What is there now, and every change after.
    pub fn watch_from_now(
        self: &Arc<Self>,
        selection: Arc<Selection>,
        now: u64,
        bookmarks: bool,
    ) -> (Snapshot, Subscription) {
        let mut state = self.state.write();
        let revision = state.revision.max(now);
        let snapshot = Snapshot { entries: self.select(&state, &selection), revision };
        let after = state.revision;
        (snapshot, self.subscribe(&mut state, selection, after, bookmarks))
    }

    fn subscribe(
        self: &Arc<Self>,
        state: &mut State,
        selection: Arc<Selection>,
        after: u64,
        bookmarks: bool,
    ) -> Subscription {
        let (ticket, events) = state.watchers.add(selection, after, bookmarks);
        if state.retired {
            state.watchers.remove(&ticket);
        }
        Subscription { cache: self.clone(), ticket, events }
    }

    /// Ends all watches.
    pub fn end_watches(&self) {
        self.state.write().watchers.clear();
    }

    /// Ends all watches, and those that are yet to begin, for good: the resource is no longer served, or in another
    /// way. Whoever comes back finds what is served now.
    pub fn retire(&self) {
        let mut state = self.state.write();
        state.retired = true;
        state.watchers.clear();
    }
}

impl State {
    fn remember(&mut self, event: Arc<Event>) {
        let now = Instant::now();
        self.window.push_back((now, event));
        while self.window.len() > WINDOW_MIN {
            let full = self.window.len() > WINDOW_MAX;
            match self.window.front() {
                Some((at, event)) if full || now.duration_since(*at) > WINDOW_AGE => {
                    self.floor = event.revision;
                    self.window.pop_front();
                }
                _ => break,
            }
        }
    }
}
