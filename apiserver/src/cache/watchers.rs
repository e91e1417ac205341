//! The watchers of one resource, found by what a change is about so that a change costs only those who want it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::entry::Entry;
use super::event::{Event, EventType};
use super::selection::Selection;

/// How many undelivered events a watcher may have before it is cut off and must list again.
const QUEUE: usize = 4096;

/// What a watcher receives.
#[derive(Debug, Clone)]
pub enum Delivery {
    Event(EventType, Arc<Event>),
    /// Everything up to this revision has been delivered.
    Bookmark(u64),
}

/// Where a watcher is filed: it hears of changes to one object, one namespace, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scope {
    All,
    Namespace(Box<str>),
    Object(Box<str>),
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    selection: Arc<Selection>,
    /// Changes up to this one are known to it.
    after: u64,
    bookmarks: bool,
    queue: mpsc::Sender<Delivery>,
}

#[derive(Debug, Default)]
pub struct Watchers {
    all: Vec<Watcher>,
    scoped: HashMap<Scope, Vec<Watcher>>,
    next_id: AtomicU64,
}

/// Names a watcher when it leaves.
#[derive(Debug)]
pub struct Ticket {
    scope: Scope,
    id: u64,
}

impl Watchers {
    /// Files a watcher that wants what happens after the revision.
    pub fn add(
        &mut self,
        selection: Arc<Selection>,
        after: u64,
        bookmarks: bool,
    ) -> (Ticket, mpsc::Receiver<Delivery>) {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let scope = scope_of(&selection);
        let watcher = Watcher { id, selection, after, bookmarks, queue };
        self.list(&scope).push(watcher);
        (Ticket { scope, id }, receiver)
    }

    fn list(&mut self, scope: &Scope) -> &mut Vec<Watcher> {
        match scope {
            Scope::All => &mut self.all,
            _ => self.scoped.entry(scope.clone()).or_default(),
        }
    }

    pub fn remove(&mut self, ticket: &Ticket) {
        self.list(&ticket.scope).retain(|watcher| watcher.id != ticket.id);
        self.prune(&ticket.scope);
    }

    fn prune(&mut self, scope: &Scope) {
        if self.scoped.get(scope).is_some_and(Vec::is_empty) {
            self.scoped.remove(scope);
        }
    }

    /// Hands the change to everyone it concerns. Who does not keep up is dropped: its stream ends.
    pub fn dispatch(&mut self, event: &Arc<Event>) {
        let Some(subject) = event.subject() else { return };
        offer(&mut self.all, event);
        if self.scoped.is_empty() {
            return;
        }
        let namespace = subject.namespace();
        let mut scopes = vec![Scope::Object(subject.path().into())];
        if !namespace.is_empty() {
            scopes.push(Scope::Namespace(namespace.into()));
        }
        for scope in scopes {
            if let Some(list) = self.scoped.get_mut(&scope) {
                offer(list, event);
                self.prune(&scope);
            }
        }
    }

    /// Tells those who asked that they are up to date.
    pub fn bookmark(&mut self, revision: u64) {
        let lists = std::iter::once(&mut self.all).chain(self.scoped.values_mut());
        for watcher in lists.flatten().filter(|watcher| watcher.bookmarks) {
            // A full queue ends the watcher at its next event; a missed bookmark costs it nothing.
            let _ = watcher.queue.try_send(Delivery::Bookmark(revision));
        }
    }

    /// Ends all watches; their clients list again.
    pub fn clear(&mut self) {
        self.all.clear();
        self.scoped.clear();
    }

    pub fn len(&self) -> usize {
        self.all.len() + self.scoped.values().map(Vec::len).sum::<usize>()
    }
}

fn scope_of(selection: &Selection) -> Scope {
    match (&*selection.namespace, &*selection.name) {
        ("", "") => Scope::All,
        (namespace, "") => Scope::Namespace(namespace.into()),
        // A name without a namespace is one object only where objects have no namespace.
        ("", name) if selection.cluster_scoped => Scope::Object(name.into()),
        ("", _) => Scope::All,
        (namespace, name) => Scope::Object(format!("{namespace}/{name}").into()),
    }
}

fn offer(watchers: &mut Vec<Watcher>, event: &Arc<Event>) {
    watchers.retain(|watcher| {
        if event.revision <= watcher.after {
            return true;
        }
        let wanted = |entry: &Entry| watcher.selection.matches(entry);
        match event.seen_through(wanted) {
            Some(kind) => watcher.queue.try_send(Delivery::Event(kind, event.clone())).is_ok(),
            None => true,
        }
    });
}
