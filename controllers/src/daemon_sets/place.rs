//! What to create and delete so that every fitting node has one pod. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, RollingUpdateDaemonSet},
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use knarr_client::Cached;

use super::fit::{self, Fit};
use crate::{deployment::scaled, error::Error, pods};

/// A set with its pods by node.
pub(super) struct View<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) nodes: &'a [Arc<Node>],
    pub(super) by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    /// The hash of the present template.
    pub(super) hash: &'a str,
    pub(super) now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Nodes that need a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods that ended, to be deleted too: failed ones not faster than the node can take it.
    pub(super) ended: Vec<Arc<Pod>>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        nodes: &'a [Arc<Node>],
        pods: &[Arc<Pod>],
        hash: &'a str,
        now: Timestamp,
    ) -> Self {
        let mut by_node = BTreeMap::<String, Vec<Arc<Pod>>>::new();
        for pod in pods {
            if let Some(node) = fit::target(pod) {
                by_node.entry(node.to_owned()).or_default().push(Arc::clone(pod));
            }
        }
        Self { set, nodes, by_node, hash, now }
    }

    pub(super) fn min_ready(&self) -> i32 {
        self.set.spec.min_ready_seconds.unwrap_or(0)
    }

    pub(super) fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready(), self.now)
    }

    fn rolling(&self) -> Option<&RollingUpdateDaemonSet> {
        self.set.spec.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    pub(super) fn desired(&self) -> usize {
        self.nodes.iter().filter(|node| Fit::of(self.set, node).should_run).count()
    }

    /// How many nodes may have two pods while updating, and how many none that is available.
    pub(super) fn limits(&self) -> Result<(usize, usize), Error> {
        let desired = i32::try_from(self.desired()).unwrap_or(i32::MAX);
        let count = |value: Option<&IntOrString>, default: i32| {
            let value = value.cloned().unwrap_or(IntOrString::Int(default));
            scaled(&value, desired, true).map(|count| usize::try_from(count).unwrap_or(0))
        };
        let surge = count(self.rolling().and_then(|rolling| rolling.max_surge.as_ref()), 0)?;
        let unavailable = count(self.rolling().and_then(|rolling| rolling.max_unavailable.as_ref()), 1)?;
        Ok(if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) })
    }

    fn allows_surge(&self) -> bool {
        self.limits().is_ok_and(|(surge, _)| surge > 0) && self.rolling().is_some()
    }

    /// What must change whatever template the pods are of.
    pub(super) fn place(&self) -> Changes {
        let mut changes = Changes::default();
        for node in self.nodes {
            let fit = Fit::of(self.set, node);
            let pods = self.by_node.get(node.name());
            match pods {
                None if fit.should_run => changes.create.push(node.name().to_owned()),
                None => {}
                Some(pods) if fit.may_stay => self.tidy(node, pods, fit, &mut changes),
                Some(pods) => changes.delete.extend(going_none(pods)),
            }
        }
        // Aimed at a node that is gone, and never scheduled: nobody else will remove them.
        let known = |name: &str| self.nodes.iter().any(|node| node.name() == name);
        let lost = self.by_node.iter().filter(|(node, _)| !known(node)).flat_map(|(_, pods)| pods);
        changes
            .delete
            .extend(lost.filter(|pod| pods::node_name(pod).is_empty() && pods::is_active(pod)).cloned());
        changes
    }

    /// Sees to the pods on a node where one may be.
    fn tidy(&self, node: &Node, pods: &[Arc<Pod>], fit: Fit, changes: &mut Changes) {
        let (ended, mut running): (Vec<_>, Vec<_>) = going_none(pods).partition(|pod| pods::is_finished(pod));
        changes.ended.extend(ended);
        running.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (
                pods::node_name(pod).is_empty(),
                pods::phase(pod) != "Running",
                created,
                pod.metadata.name.clone(),
            )
        });
        if !self.allows_surge() {
            changes.delete.extend(running.into_iter().skip(1));
            return;
        }
        if running.is_empty() && fit.should_run {
            changes.create.push(node.name().to_owned());
            return;
        }
        let (mut new, mut old) = (None, None);
        for pod in running {
            let place = if fit::hash(&pod) == self.hash { &mut new } else { &mut old };
            if place.is_none() {
                *place = Some(pod);
            } else {
                changes.delete.push(pod);
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!pods::is_ready(&old) || self.is_available(&new))
        {
            changes.delete.push(old);
        }
    }
}

/// The pods that are not on their way out.
fn going_none(pods: &[Arc<Pod>]) -> impl Iterator<Item = Arc<Pod>> {
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned()
}

#[cfg(test)]
mod tests {
    use super::{
        super::fit::tests::{node, set},
        *,
    };
    use crate::{pods::tests::pod, revisions::REVISION_LABEL};

    pub(crate) fn daemon(name: &str, node: &str, hash: &str, ready: bool) -> Arc<Pod> {
        let mut pod = pod(name, node, "Running", ready.then_some(1));
        pod.metadata.labels = Some([(REVISION_LABEL.to_owned(), hash.to_owned())].into());
        Arc::new(pod)
    }

    #[test]
    fn every_fitting_node_gets_one_and_no_other_keeps_any() {
        let nodes: Vec<_> = [
            node("a", &[]),
            node("b", &[]),
            node("c", &[("x", "NoSchedule")]),
            node("d", &[("x", "NoExecute")]),
        ]
        .map(Arc::new)
        .into();
        let pods = [
            daemon("b1", "b", "h", true),
            daemon("b2", "b", "h", true),
            daemon("c1", "c", "h", true),
            daemon("d1", "d", "h", true),
        ];
        let set = set();
        let view = View::new(&set, &nodes, &pods, "h", Timestamp::from_second(9).unwrap());
        let changes = view.place();
        assert_eq!(changes.create, ["a"]);
        let deleted: Vec<_> = changes.delete.iter().map(|pod| pod.name()).collect();
        assert_eq!(deleted, ["b2", "d1"]);
    }

    #[test]
    fn an_ended_pod_is_replaced() {
        let nodes = [Arc::new(node("a", &[]))];
        let failed = Arc::new(pod("a1", "a", "Failed", None));
        let set = set();
        let view = View::new(&set, &nodes, &[failed], "h", Timestamp::from_second(9).unwrap());
        assert_eq!(view.place().ended.len(), 1);
    }
}
