//! Watching every resource that can be collected, as they come and go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::api::core::v1::ObjectReference;
use knarr_client::{
    InformerFactory,
    events::{EventRecorder, EventType},
    informer::{LineageChange, LineageInformer, Subscription},
    object::Skeleton,
};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{
    Shared,
    graph::{Place, Todo},
};
use crate::discovery::{ResourceInfo, Resources};

pub(super) struct Monitors {
    shared: Arc<Shared>,
    informers: InformerFactory,
    recorder: EventRecorder,
    active: BTreeMap<Arc<ResourceInfo>, Monitor>,
}

struct Monitor {
    informer: Arc<dyn LineageInformer>,
    _subscription: Subscription,
}

/// Events own nothing, are owned by nobody and are many.
fn is_collected(resource: &ResourceInfo) -> bool {
    ["delete", "list", "watch"].iter().all(|verb| resource.can(verb))
        && !(resource.plural == "events" && ["", "events.k8s.io"].contains(&resource.group.as_str()))
}

impl Monitors {
    pub(super) fn new(shared: Arc<Shared>, informers: InformerFactory, recorder: EventRecorder) -> Self {
        Self { shared, informers, recorder, active: BTreeMap::new() }
    }

    /// Watches what is new and stops watching what is no more.
    pub(super) fn follow(&mut self, resources: &Resources) {
        let wanted: Vec<_> =
            resources.preferred().filter(|resource| is_collected(resource)).cloned().collect();
        // A group whose server is away has not lost its objects.
        let is_stale =
            |resource: &ResourceInfo| resources.stale.iter().any(|stale| *stale == resource.api_version());
        let gone: Vec<_> = self
            .active
            .keys()
            .filter(|resource| !wanted.contains(resource) && !is_stale(resource))
            .cloned()
            .collect();
        for resource in gone {
            debug!(resource = resource.plural, group = resource.group, "no longer collected");
            self.active.remove(&resource);
            self.informers.release::<Skeleton>(&resource.selection());
        }
        for resource in wanted {
            if !self.active.contains_key(&resource) {
                let monitor = self.monitor(&resource);
                self.active.insert(resource, monitor);
            }
        }
    }

    fn monitor(&self, resource: &Arc<ResourceInfo>) -> Monitor {
        let informer = self.informers.lineages(&resource.selection());
        let (shared, recorder, resource) =
            (Arc::clone(&self.shared), self.recorder.clone(), Arc::clone(resource));
        let subscription = informer.subscribe_lineages(Box::new(move |change| {
            let todo = match change {
                LineageChange::Present(seen) => shared.graph.lock().present(&resource, &seen),
                LineageChange::Gone(seen) => {
                    let had_dependents =
                        shared.graph.lock().get(seen.uid).is_some_and(|node| !node.dependents.is_empty());
                    if had_dependents {
                        shared.absent.add(seen.uid, seen.namespace);
                    }
                    shared.graph.lock().gone(seen.uid)
                }
            };
            report_mismatched(&shared, &recorder, &todo);
            shared.enqueue(todo);
        }));
        Monitor { informer, _subscription: subscription }
    }

    /// Waits until every cache is full, or `patience` has passed.
    pub(super) async fn synced(&self, patience: Duration) {
        let all = join_all(self.active.values().map(|monitor| monitor.informer.synced()));
        if timeout(patience, all).await.is_err() {
            let missing = self.active.iter().filter(|(_, monitor)| !monitor.informer.has_synced());
            let missing: Vec<_> = missing.map(|(resource, _)| resource.plural.as_str()).collect();
            warn!(?missing, "not all caches are full, collecting anyway");
        }
    }
}

impl Shared {
    pub(super) fn enqueue(&self, todo: Todo) {
        todo.delete.into_iter().for_each(|uid| self.queues.delete.add(uid));
        todo.orphan.into_iter().for_each(|uid| self.queues.orphan.add(uid));
    }
}

fn report_mismatched(shared: &Shared, recorder: &EventRecorder, todo: &Todo) {
    for uid in &todo.mismatched {
        let graph = shared.graph.lock();
        let Some(node) = graph.get(uid) else { continue };
        let Place::Seen { resource, namespace, name } = &node.place else { continue };
        let owner = node.owners.iter().find(|owner| {
            graph.get(&owner.uid).is_some_and(|owner| {
                matches!(&owner.place, Place::Seen { namespace: other, .. } if !other.is_empty() && other != namespace)
            })
        });
        let Some(owner) = owner else { continue };
        let involved = ObjectReference {
            api_version: Some(resource.api_version()),
            kind: Some(resource.kind.clone()),
            namespace: Some(namespace.to_string()).filter(|namespace| !namespace.is_empty()),
            name: Some(name.to_string()),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        };
        let text = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        recorder.event_about(involved, EventType::Warning, "OwnerRefInvalidNamespace", text);
    }
}
