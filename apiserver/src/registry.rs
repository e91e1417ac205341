//! The generic registry: what it means to create, update and delete an object of any kind, written once.
//!
//! A kind's own rules come from its [`Strategy`] and [`Rules`]; admission is called at upstream's places; the store's
//! compare-and-swap makes every write atomic. Nothing here knows of HTTP beyond answering with a `Status`.

mod allocation;
mod create;
mod delete;
mod errors;
mod metadata;
mod modify;
mod objects;
mod read;
mod rules;
mod strategy;
mod update;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use knarr_api::gvk::{GroupVersionKind, GroupVersionResource};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_storage::Store;
use serde_json::Value;
use tokio::sync::watch;

pub use allocation::{Claim, Claims, Pools, has_host, host_count, nth_host};
pub use create::ensure_namespace;
pub use delete::{DeleteOptions, Deleted, Preconditions};
pub use errors::{invalid, store_failure};
pub use read::{Continue, ListPage, ListRequest, VersionMatch};
pub use rules::Rules;
pub use strategy::{Context, DeleteStep, GarbageCollection, Plain, Strategy, Undo, UpdateStrategy};
pub use update::{Part, Update};

use crate::admission::{Admission, Attributes, Caller, Operation};
use crate::cache::WatchCache;
use crate::catalogue::Catalogue;
use crate::context::RequestContext;
use crate::stored::Stored;

/// Everything the verbs work on.
pub struct Registry {
    pub store: Arc<dyn Store>,
    pub cache: Arc<WatchCache>,
    pub clock: SharedClock,
    pub random: SharedRandom,
    catalogue: Arc<ArcSwap<Catalogue>>,
    /// Counts changes of the catalogue.
    changes: watch::Sender<u64>,
    admission: OnceLock<Arc<dyn Admission>>,
    /// Claims on shared pools: cluster addresses, node ports.
    pub claims: Claims,
    pub pools: Pools,
    /// Reaches the webhooks that convert custom resources; set once, when the server is built.
    pub webhooks: OnceLock<Caller>,
}

/// An object as it is after a write.
#[derive(Debug, Clone)]
pub struct Written {
    /// In the storage version, with its resourceVersion.
    pub object: Value,
    /// As it was stored; `None` for a dry run.
    pub stored: Option<Stored>,
}

impl Registry {
    pub fn new(
        store: Arc<dyn Store>,
        cache: Arc<WatchCache>,
        clock: SharedClock,
        random: SharedRandom,
        pools: Pools,
    ) -> Self {
        let catalogue = Arc::new(ArcSwap::from_pointee(Catalogue::default()));
        let claims = Claims::new(store.clone());
        let changes = watch::Sender::new(0);
        let (admission, webhooks) = (OnceLock::new(), OnceLock::new());
        Self { store, cache, clock, random, catalogue, changes, admission, claims, pools, webhooks }
    }

    /// What is served at this moment.
    pub fn catalogue(&self) -> arc_swap::Guard<Arc<Catalogue>> {
        self.catalogue.load()
    }

    pub fn set_catalogue(&self, catalogue: Catalogue) {
        self.catalogue.store(Arc::new(catalogue));
        self.changes.send_modify(|count| *count += 1);
    }

    /// Tells of every change of the catalogue.
    pub fn catalogue_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Sets the admission chain, once, before the first request.
    pub fn set_admission(&self, admission: Arc<dyn Admission>) {
        assert!(self.admission.set(admission).is_ok(), "admission is set once, when the server is built");
    }

    /// The admission chain; a server without one admits everything.
    pub fn admission(&self) -> Option<&Arc<dyn Admission>> {
        self.admission.get()
    }
}

/// What admission is told of a request; object, old object and operation are filled in by the verb.
pub fn attributes(cx: &RequestContext, operation: Operation, name: &str, options: Value) -> Attributes {
    let resource = &cx.resource;
    let (group, version, kind) = match resource.subresources.get(&*cx.info.subresource) {
        Some(subresource) => (&subresource.group, &subresource.version, &subresource.kind),
        None => (&resource.group, &resource.version, &resource.kind),
    };
    Attributes {
        operation,
        kind: GroupVersionKind::new(group.clone(), version.clone(), kind.clone()),
        resource: GroupVersionResource::new(
            resource.group.clone(),
            resource.version.clone(),
            resource.name.clone(),
        ),
        subresource: cx.info.subresource.clone(),
        namespace: admission_namespace(cx),
        name: name.to_owned(),
        object: None,
        old_object: None,
        options: Some(options),
        dry_run: cx.dry_run,
        user: cx.user.clone(),
        remarks: cx.remarks.clone(),
    }
}

/// A request about a Namespace object is in that namespace to admission, as upstream has it.
fn admission_namespace(cx: &RequestContext) -> String {
    if cx.resource.namespaced || cx.resource.name == "namespaces" {
        cx.info.namespace.clone()
    } else {
        String::new()
    }
}
