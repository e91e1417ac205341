//! Replacing pods of old templates. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use knarr_client::Cached;

use super::{
    fit::{self, Fit},
    place::{Changes, View},
};
use crate::error::Error;

/// The pod of the present template and the one of an old template.
type Pair<'p> = (Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>);

/// The pods of one node that are not on their way out: one of the present template, one of an old one. `None` if
/// there are more, which must be put right first.
fn pair<'p>(view: &View<'_>, pods: &'p [Arc<Pod>]) -> Option<Pair<'p>> {
    let (mut new, mut old) = (None, None);
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let place = if fit::hash(pod) == view.hash { &mut new } else { &mut old };
        if place.replace(pod).is_some() {
            return None;
        }
    }
    Some((new, old))
}

impl View<'_> {
    pub(super) fn roll(&self) -> Result<Changes, Error> {
        let (surge, unavailable) = self.limits()?;
        Ok(if surge == 0 { self.roll_by_deleting(unavailable) } else { self.roll_by_surging(surge) })
    }

    /// Deletes old pods as far as availability allows; new ones come by themselves.
    fn roll_by_deleting(&self, limit: usize) -> Changes {
        let (mut sick, mut delete, mut candidates) = (0, Vec::new(), Vec::new());
        for pods in self.by_node.values() {
            match pair(self, pods) {
                // Nothing there yet, or too much: being put right, and not available meanwhile.
                None | Some((None, None) | (Some(_), Some(_))) => sick += 1,
                Some((Some(new), None)) => sick += usize::from(!self.is_available(new)),
                Some((None, Some(old))) if self.is_available(old) => candidates.push(Arc::clone(old)),
                Some((None, Some(old))) => {
                    delete.push(Arc::clone(old));
                    sick += 1;
                }
            }
        }
        delete.extend(candidates.into_iter().take(limit.saturating_sub(sick)));
        Changes { delete, ..Changes::default() }
    }

    /// Creates new pods beside old ones, and deletes an old one when its successor is available.
    fn roll_by_surging(&self, limit: usize) -> Changes {
        let mut changes = Changes::default();
        let (mut surging, mut available) = (0, 0);
        let (mut candidates, mut leaving) = (Vec::new(), Vec::new());
        for (name, pods) in &self.by_node {
            let Some((new, old)) = pair(self, pods) else {
                surging += 1;
                continue;
            };
            available += usize::from(old.or(new).is_some_and(|pod| self.is_available(pod)));
            let Some(old) = old else { continue };
            let should_run = self.node(name).is_some_and(|node| Fit::of(self.set, node).should_run);
            match new {
                Some(new) if self.is_available(new) => changes.delete.push(Arc::clone(old)),
                Some(_) => surging += 1,
                None if !self.is_available(old) && should_run => changes.create.push(name.clone()),
                None if !self.is_available(old) => changes.delete.push(Arc::clone(old)),
                None if should_run => candidates.push(name.clone()),
                None => leaving.push(Arc::clone(old)),
            }
        }
        // A pod that must leave its node goes when there are enough without it.
        changes.delete.extend(leaving.into_iter().take(available.saturating_sub(self.desired())));
        changes.create.extend(candidates.into_iter().take(limit.saturating_sub(surging)));
        changes
    }

    fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fit::tests::{node, set},
        *,
    };
    use crate::{pods::tests::pod, revisions::REVISION_LABEL};
    use jiff::Timestamp;
    use k8s_openapi::{
        api::apps::v1::{DaemonSet, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        apimachinery::pkg::util::intstr::IntOrString,
    };
    use proptest::prelude::*;

    fn with_limits(surge: i32, unavailable: i32) -> DaemonSet {
        let mut set = set();
        set.spec.update_strategy = Some(DaemonSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDaemonSet {
                max_surge: Some(IntOrString::Int(surge)),
                max_unavailable: Some(IntOrString::Int(unavailable)),
            }),
        });
        set
    }

    fn daemon(node: usize, new: bool, ready: bool) -> Arc<Pod> {
        let hash = if new { "new" } else { "old" };
        let mut pod = pod(&format!("{node}-{hash}"), &node.to_string(), "Running", ready.then_some(1));
        pod.metadata.labels = Some([(REVISION_LABEL.to_owned(), hash.to_owned())].into());
        Arc::new(pod)
    }

    fn round(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> (Vec<Arc<Pod>>, Vec<String>) {
        let view = View::new(set, nodes, pods, "new", Timestamp::from_second(9).unwrap());
        // Nothing is replaced before every node has what it should have.
        let placed = view.place();
        let changes = if placed == Changes::default() { view.roll().unwrap() } else { placed };
        (changes.delete, changes.create)
    }

    proptest! {
        /// Plays an update where new pods become ready at random.
        #[test]
        fn an_update_never_breaks_its_limits(
            count in 1..12usize,
            surge in 0..4i32,
            unavailable in 1..4i32,
            luck in prop::collection::vec(any::<u16>(), 40),
        ) {
            let set = with_limits(surge, if surge > 0 { 0 } else { unavailable });
            let nodes: Vec<_> = (0..count).map(|name| Arc::new(node(&name.to_string(), &[]))).collect();
            let mut pods: Vec<_> = (0..count).map(|node| daemon(node, false, true)).collect();
            for luck in luck {
                let (delete, create) = round(&set, &nodes, &pods);
                pods.retain(|pod| !delete.iter().any(|gone| gone.name() == pod.name()));
                pods.extend(create.iter().map(|name| daemon(name.parse().unwrap(), true, false)));
                let on = |node: usize| pods.iter().filter(move |pod| fit::target(pod) == Some(&*node.to_string()));
                let doubled = (0..count).filter(|&node| on(node).count() > 1).count();
                let served = (0..count).filter(|&node| on(node).any(|pod| crate::pods::is_ready(pod))).count();
                prop_assert!(doubled <= usize::try_from(surge).unwrap());
                let may_miss = if surge > 0 { 0 } else { usize::try_from(unavailable).unwrap() };
                prop_assert!(served + may_miss >= count);
                for pod in &mut pods {
                    let number: usize = fit::target(pod).unwrap().parse().unwrap();
                    if !crate::pods::is_ready(pod) && luck & (1 << number) != 0 {
                        *pod = daemon(number, true, true);
                    }
                }
            }
        }
    }
}
