//! Deciding whether one object is garbage.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knarr_client::{Action, Reconcile};

use super::{
    Shared, Uid,
    graph::{FOREGROUND, Node, ORPHAN, Place},
    requests::{Live, Propagation, Requests},
};
use crate::error::Error;

pub(super) struct Collect {
    pub(super) shared: Arc<Shared>,
    pub(super) requests: Requests,
}

/// The owners of an object, by what they mean for it.
#[derive(Default)]
struct Owners<'a> {
    solid: Vec<&'a OwnerReference>,
    dangling: Vec<&'a OwnerReference>,
    /// Being deleted in the foreground: they wait for the object to go first.
    waiting: Vec<&'a OwnerReference>,
}

enum Standing {
    Solid,
    Dangling,
    Waiting,
}

impl Reconcile for Collect {
    type Key = Uid;
    type Error = Error;

    async fn reconcile(&self, uid: &Uid) -> Result<Action, Error> {
        let Some(node) = self.shared.graph.lock().get(uid).cloned() else { return Ok(Action::Done) };
        if node.being_deleted && !node.deleting_dependents {
            return Ok(Action::Done);
        }
        let live = self.requests.find(&node.place).await?.filter(|live| *live.uid() == **uid);
        let Some(live) = live else {
            self.vanished(uid);
            return Ok(Action::Done);
        };
        if node.deleting_dependents {
            self.release_if_unblocked(uid, &live).await?;
        } else if !node.is_virtual() {
            self.collect(uid, &node, &live).await?;
        } else if self.shared.graph.lock().get(uid).is_some_and(Node::is_virtual) {
            // It is there; its watch will say so.
            return Ok(Action::Retry);
        }
        Ok(Action::Done)
    }
}

impl Collect {
    /// The server says it is not there: whatever the watches say later, it will not come back.
    fn vanished(&self, uid: &Uid) {
        let node = self.shared.graph.lock().get(uid).cloned();
        if let Some(Node { place: Place::Seen { namespace, .. }, .. }) = &node {
            self.shared.absent.add(uid, namespace);
        }
        let todo = self.shared.graph.lock().gone(uid);
        self.shared.enqueue(todo);
    }

    async fn release_if_unblocked(&self, uid: &Uid, live: &Live) -> Result<(), Error> {
        let blocking = self.shared.graph.lock().blocking(uid);
        if blocking.is_empty() {
            if !self.requests.remove_finalizer(live, FOREGROUND).await? {
                self.vanished(uid);
            }
            return Ok(());
        }
        let waits_itself = |dependent: &Uid| {
            self.shared.graph.lock().get(dependent).is_some_and(|node| node.deleting_dependents)
        };
        for dependent in blocking.into_iter().filter(|dependent| !waits_itself(dependent)) {
            self.shared.queues.delete.add(dependent);
        }
        Ok(())
    }

    async fn collect(&self, uid: &Uid, node: &Node, live: &Live) -> Result<(), Error> {
        let lineage = live.lineage();
        if lineage.owners.is_empty() {
            return Ok(());
        }
        let owners = self.classify(node, lineage.owners).await?;
        if !owners.solid.is_empty() {
            if owners.dangling.is_empty() && owners.waiting.is_empty() {
                return Ok(());
            }
            return self.or_vanished(uid, self.requests.set_owners(live, &owners.solid).await?);
        }
        let has_dependents = !node.dependents.is_empty();
        if !owners.waiting.is_empty() && has_dependents {
            if self.shared.graph.lock().has_waiting_dependent(uid) {
                return self.break_cycle(uid, live).await;
            }
            return self.or_vanished(uid, self.requests.delete(live, Propagation::Foreground).await?);
        }
        let has = |finalizer: &str| lineage.finalizers.iter().any(|other| other == finalizer);
        let propagation = if has(ORPHAN) {
            Propagation::Orphan
        } else if has(FOREGROUND) {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        self.or_vanished(uid, self.requests.delete(live, propagation).await?)
    }

    fn or_vanished(&self, uid: &Uid, was_there: bool) -> Result<(), Error> {
        if !was_there {
            self.vanished(uid);
        }
        Ok(())
    }

    /// Owner and dependent would wait for each other for ever: the object blocks its owners no more, and is
    /// deleted when that has come back as a change.
    async fn break_cycle(&self, uid: &Uid, live: &Live) -> Result<(), Error> {
        let freed: Vec<_> = live
            .lineage()
            .owners
            .iter()
            .map(|owner| OwnerReference { block_owner_deletion: Some(false), ..owner.clone() })
            .collect();
        if live.lineage().owners.iter().any(|owner| owner.block_owner_deletion == Some(true)) {
            let freed: Vec<_> = freed.iter().collect();
            self.or_vanished(uid, self.requests.set_owners(live, &freed).await?)?;
            self.shared.queues.delete.add(Arc::clone(uid));
            return Ok(());
        }
        self.or_vanished(uid, self.requests.delete(live, Propagation::Foreground).await?)
    }

    async fn classify<'a>(&self, node: &Node, owners: &'a [OwnerReference]) -> Result<Owners<'a>, Error> {
        let Place::Seen { namespace, .. } = &node.place else { return Ok(Owners::default()) };
        let mut classes = Owners::default();
        for owner in owners {
            match self.standing(owner, namespace).await? {
                Standing::Solid => classes.solid.push(owner),
                Standing::Dangling => classes.dangling.push(owner),
                Standing::Waiting => classes.waiting.push(owner),
            }
        }
        Ok(classes)
    }

    async fn standing(&self, owner: &OwnerReference, namespace: &str) -> Result<Standing, Error> {
        if self.shared.absent.contains(&owner.uid, "") || self.shared.absent.contains(&owner.uid, namespace) {
            return Ok(Standing::Dangling);
        }
        let resource = self.requests.resource(&owner.api_version, &owner.kind)?;
        if resource.namespaced && namespace.is_empty() {
            // Nobody can say which of many is meant: never a reason to delete anything.
            return Ok(Standing::Solid);
        }
        let looked_in = if resource.namespaced { namespace } else { "" };
        let live = self.requests.get(&resource, looked_in, &owner.name).await?;
        let Some(live) = live.filter(|live| live.uid() == owner.uid) else {
            self.shared.absent.add(&owner.uid, looked_in);
            return Ok(Standing::Dangling);
        };
        let lineage = live.lineage();
        let waits =
            lineage.is_being_deleted && lineage.finalizers.iter().any(|finalizer| finalizer == FOREGROUND);
        Ok(if waits { Standing::Waiting } else { Standing::Solid })
    }
}
