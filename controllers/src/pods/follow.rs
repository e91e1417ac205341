//! Which owner a change of a pod concerns.

use std::sync::Arc;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{Pod, ReplicationController},
    },
};
use knarr_client::{
    Cached, Change, ObjectKey, SharedInformer, WorkQueue,
    expectations::Expectations,
    object::controller_of,
    ownership::{SelectorError, selector},
};
use kube::{
    Resource,
    core::{Selector, SelectorExt},
};

/// A kind whose objects own the pods that their selector chooses.
pub(crate) trait SelectsPods:
    Cached + Resource<DynamicType = (), Scope = NamespaceResourceScope>
{
    fn pod_selector(&self) -> Result<Selector, SelectorError>;
}

macro_rules! selects_pods {
    ($($kind:ty: |$this:ident| $selector:expr;)*) => {$(
        impl SelectsPods for $kind {
            fn pod_selector(&self) -> Result<Selector, SelectorError> {
                let $this = self;
                $selector
            }
        }
    )*};
}

selects_pods! {
    ReplicaSet: |this| selector(&this.spec.selector);
    StatefulSet: |this| selector(&this.spec.selector);
    DaemonSet: |this| selector(&this.spec.selector);
    Job: |this| selector(&this.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default());
    ReplicationController: |this| {
        let labels = this.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        Ok(labels.into_iter().collect())
    };
}

/// Queues the owners of one kind when pods change that are theirs, were theirs, or could be theirs.
pub(crate) struct Follower<O: SelectsPods> {
    pub(crate) owners: SharedInformer<O>,
    pub(crate) queue: Arc<WorkQueue<ObjectKey>>,
    /// What the controller waits to see, if it keeps count.
    pub(crate) expectations: Option<Arc<Expectations>>,
}

impl<O: SelectsPods> Follower<O> {
    /// Follows the pods for as long as their cache lives.
    pub(crate) fn follow(self, pods: &SharedInformer<Pod>) {
        pods.subscribe(move |change| self.changed(&change)).forever();
    }

    fn changed(&self, change: &Change<'_, Pod>) {
        let pod = change.object();
        let moved = match change {
            Change::Updated { old, .. } if controller_of(&old.metadata) != controller_of(&pod.metadata) => {
                self.owner(old).into_iter().for_each(|key| self.queue.add(key));
                true
            }
            Change::Updated { old, .. } => old.metadata.labels != pod.metadata.labels,
            Change::Added(_) => true,
            Change::Deleted { .. } => false,
        };
        // Seen for the first time while it is already going away, as after a restart, it is no creation.
        let going = pod.metadata.deletion_timestamp.is_some() || matches!(change, Change::Deleted { .. });
        match self.owner(pod) {
            Some(key) => {
                if let Some(expectations) = &self.expectations {
                    if going {
                        expectations.deletion_observed(&key, pod.uid());
                    } else if matches!(change, Change::Added(_)) {
                        expectations.creation_observed(&key);
                    }
                }
                self.queue.add(key);
            }
            None if moved && !going => self.may_be_adopted(pod),
            None => {}
        }
    }

    /// The key of the pod's owner, if that is one of ours and still the same object.
    fn owner(&self, pod: &Pod) -> Option<ObjectKey> {
        owner_among(&self.owners, pod).map(|owner| ObjectKey::of(&*owner))
    }

    fn may_be_adopted(&self, pod: &Pod) {
        let (Some(labels), None) = (&pod.metadata.labels, controller_of(&pod.metadata)) else { return };
        for owner in self.owners.in_namespace(pod.namespace()) {
            // A selector that selects everything is a mistake and selects nothing.
            if owner.pod_selector().is_ok_and(|selector| !selector.selects_all() && selector.matches(labels))
            {
                self.queue.add(ObjectKey::of(&*owner));
            }
        }
    }
}

/// The owner of a pod, if it is of this kind and still the same object.
pub(crate) fn owner_among<O: SelectsPods>(owners: &SharedInformer<O>, pod: &Pod) -> Option<Arc<O>> {
    let reference = controller_of(&pod.metadata)
        .filter(|owner| owner.kind == O::kind(&()) && owner.api_version == O::api_version(&()))?;
    owners.get(pod.namespace(), &reference.name).filter(|owner| owner.uid() == reference.uid)
}
