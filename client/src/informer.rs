//! Caches of whole resources, kept current by one list and watch each.
//!
//! ```text
//!   API server --list, watch--> reflector --apply--> Store (Arc<K>, indices)
//!                                              \---> handlers, in order, on the reflector's task
//! ```
//!
//! Guarantees: a handler sees every object exactly once as added, then its changes in order, then its deletion.
//! A watch event is in the store before a handler hears of it. Changes that happened while the watch was broken
//! are found by comparing a new list with the store: intermediate states are skipped, and a deletion found that
//! way is marked stale because the final state was never seen. An object that was deleted and made anew under the
//! same name is always delivered as deleted and added, never as updated.
//!
//! Handlers run on the reflector's task and must only enqueue or flip a flag.

mod factory;
mod reflector;
mod selection;
mod store;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

pub use self::{factory::InformerFactory, reflector::ListError, selection::Selection};
use self::{store::Store, wire::WatchEvent};
use crate::object::{Cached, Lineage, ObjectKey};

/// One change of one object.
#[derive(Debug)]
pub enum Change<'a, K> {
    Added(&'a Arc<K>),
    Updated {
        old: &'a Arc<K>,
        new: &'a Arc<K>,
    },
    /// `stale`: the deletion was missed, and `last` may not be the state the object was deleted in.
    Deleted {
        last: &'a Arc<K>,
        stale: bool,
    },
}

impl<'a, K> Change<'a, K> {
    /// The newest known state of the object.
    pub fn object(&self) -> &'a Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted { last: object, .. } => {
                object
            }
        }
    }
}

type Handler<K> = Box<dyn Fn(Change<'_, K>) + Send + Sync>;

/// A cache of one resource that all its users in this process share. Cloning shares it.
pub struct SharedInformer<K: Cached>(Arc<Inner<K>>);

impl<K: Cached> Clone for SharedInformer<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<K: Cached> {
    selection: Selection,
    store: RwLock<Store<K>>,
    /// Held while a change is applied and delivered, so that a new handler misses none and sees none twice.
    handlers: Mutex<Vec<(u64, Handler<K>)>>,
    next_handler: AtomicU64,
    synced: watch::Sender<bool>,
}

/// Removes its handler when dropped; [`Subscription::forever`] keeps it for the informer's life.
#[must_use = "dropping a subscription removes its handler"]
pub struct Subscription(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Subscription {
    pub fn forever(mut self) {
        self.0 = None;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(remove) = self.0.take() {
            remove();
        }
    }
}

impl<K: Cached> SharedInformer<K> {
    /// An empty cache that nothing fills yet; [`InformerFactory`] is the way to get a live one.
    fn new(selection: Selection) -> Self {
        Self(Arc::new(Inner {
            selection,
            store: RwLock::new(Store::new()),
            handlers: Mutex::new(Vec::new()),
            next_handler: AtomicU64::new(0),
            synced: watch::Sender::new(false),
        }))
    }

    pub fn selection(&self) -> &Selection {
        &self.0.selection
    }

    /// Whether the first list has been stored and delivered to the handlers.
    pub fn has_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits until [`Self::has_synced`]. Does not return if the informer is stopped before.
    pub async fn synced(&self) {
        let mut synced = self.0.synced.subscribe();
        synced
            .wait_for(|synced| *synced)
            .await
            .map(drop)
            .expect("the sender lives in the informer we borrow");
    }

    /// Calls `handler` for every object now in the cache (as added) and for every change from now on.
    ///
    /// The handler must not register or remove handlers of the same informer.
    pub fn subscribe(&self, handler: impl Fn(Change<'_, K>) + Send + Sync + 'static) -> Subscription {
        let mut handlers = self.0.handlers.lock();
        for object in self.list() {
            handler(Change::Added(&object));
        }
        let id = self.0.next_handler.fetch_add(1, Ordering::Relaxed);
        handlers.push((id, Box::new(handler)));
        let inner = Arc::downgrade(&self.0);
        Subscription(Some(Box::new(move || {
            if let Some(inner) = inner.upgrade() {
                inner.handlers.lock().retain(|(other, _)| *other != id);
            }
        })))
    }

    /// Makes `by_index(name, ...)` answer from a table kept current. Adding the same name again has no effect.
    pub fn add_index(&self, name: &'static str, values: fn(&K) -> Vec<String>) {
        self.0.store.write().add_index(name, values);
    }

    /// The object as last seen; the namespace is empty for cluster-scoped resources.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.0.store.read().get(namespace, name).cloned()
    }

    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.store.read().iter().cloned().collect()
    }

    /// The objects that `keep` accepts. The cache is locked meanwhile: `keep` must be quick.
    pub fn filter(&self, keep: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.0.store.read().iter().filter(|object| keep(object)).cloned().collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.0.store.read().in_namespace(namespace).cloned().collect()
    }

    /// The objects that index `name` has under `value`, ordered by key.
    ///
    /// # Panics
    /// If no such index was added, which is a mistake in the program.
    pub fn by_index(&self, name: &'static str, value: &str) -> Vec<Arc<K>> {
        self.0.store.read().by_index(name, value)
    }

    pub fn len(&self) -> usize {
        self.0.store.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the cache equal to a fresh list and tells the handlers the difference.
    fn replace(&self, objects: Vec<K>) {
        let handlers = self.0.handlers.lock();
        let changes = self.0.store.write().replace(objects);
        for change in &changes {
            change.deliver(&handlers);
        }
        self.0.synced.send_replace(true);
    }

    /// Applies one watch event and tells the handlers.
    fn apply(&self, event: WatchEvent<K>) {
        let handlers = self.0.handlers.lock();
        let changes = match event {
            WatchEvent::Applied(object) => self.0.store.write().insert(object),
            WatchEvent::Deleted(object) => self.0.store.write().remove(object).into_iter().collect(),
        };
        for change in &changes {
            change.deliver(&handlers);
        }
    }
}

/// What is left of an object when only its place among owners and dependents matters.
#[derive(Debug, Clone, Copy)]
pub struct LineageOf<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub lineage: Lineage<'a>,
}

/// One change as seen by [`LineageInformer::subscribe_lineages`].
#[derive(Debug)]
pub enum LineageChange<'a> {
    /// Added or updated; the handler knows what it had before.
    Present(LineageOf<'a>),
    Gone(LineageOf<'a>),
}

/// A [`SharedInformer`] of objects of any type, seen only for their lineage.
pub trait LineageInformer: Send + Sync {
    fn subscribe_lineages(&self, handler: Box<dyn Fn(LineageChange<'_>) + Send + Sync>) -> Subscription;
    fn has_synced(&self) -> bool;
    /// Waits until [`Self::has_synced`].
    fn synced(&self) -> BoxFuture<'_, ()>;
    /// How many objects a namespace has.
    fn count_in(&self, namespace: &str) -> usize;
}

impl<K: Cached> LineageInformer for SharedInformer<K> {
    fn subscribe_lineages(&self, handler: Box<dyn Fn(LineageChange<'_>) + Send + Sync>) -> Subscription {
        self.subscribe(move |change| {
            let object = &**change.object();
            let Some(lineage) = object.lineage() else { return };
            let seen =
                LineageOf { namespace: object.namespace(), name: object.name(), uid: object.uid(), lineage };
            handler(match change {
                Change::Deleted { .. } => LineageChange::Gone(seen),
                Change::Added(_) | Change::Updated { .. } => LineageChange::Present(seen),
            });
        })
    }

    fn has_synced(&self) -> bool {
        SharedInformer::has_synced(self)
    }

    fn synced(&self) -> BoxFuture<'_, ()> {
        SharedInformer::synced(self).boxed()
    }

    fn count_in(&self, namespace: &str) -> usize {
        self.0.store.read().in_namespace(namespace).count()
    }
}
