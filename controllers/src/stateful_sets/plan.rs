//! What is to be done about the pods of a StatefulSet now. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::Pod,
};
use knarr_client::Cached;

use super::identity;
use crate::{deployment::scaled, error::Error, pods};

/// One thing to do. In an ordered set they are done one after the other; a failure stops the rest.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create(Box<Pod>, usize),
    Delete(Arc<Pod>),
    /// Make the claims a waiting pod needs.
    Claims(usize),
    /// Give a pod its identity back.
    Repair(Arc<Pod>, usize),
}

/// What the plan is made from.
pub(super) struct View<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) pods: &'a [Arc<Pod>],
    /// The revision that finished last, and the one of the present template.
    pub(super) current: &'a ControllerRevision,
    pub(super) update: &'a ControllerRevision,
    pub(super) now: Timestamp,
}

/// The pods by their place.
pub(super) struct Places {
    /// One per ordinal of the set, from the first.
    pub(super) wanted: Vec<Option<Arc<Pod>>>,
    /// Pods beyond the set's ordinals, highest first.
    pub(super) condemned: Vec<Arc<Pod>>,
}

impl Places {
    pub(super) fn of(set: &StatefulSet, pods: &[Arc<Pod>]) -> Self {
        let mut wanted = vec![None; identity::replicas(set)];
        let mut condemned = Vec::new();
        for pod in pods {
            let Some(ordinal) = identity::ordinal(set, pod) else { continue };
            if identity::is_in_range(set, ordinal) {
                wanted[ordinal - identity::start(set)] = Some(Arc::clone(pod));
            } else {
                condemned.push((ordinal, Arc::clone(pod)));
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self { wanted, condemned: condemned.into_iter().map(|(_, pod)| pod).collect() }
    }
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub(super) fn is_ordered(set: &StatefulSet) -> bool {
    set.spec.pod_management_policy.as_deref() != Some("Parallel")
}

fn partition(set: &StatefulSet) -> Option<usize> {
    let rolling = set.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
    Some(rolling.partition.and_then(|partition| usize::try_from(partition).ok()).unwrap_or(0))
}

pub(super) fn updates_itself(set: &StatefulSet) -> bool {
    let strategy = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("OnDelete")
}

impl View<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        pods::phase(pod) == "Running" && pods::is_available(pod, min_ready, self.now) && !is_terminating(pod)
    }

    /// The revision a new pod of this ordinal is of: below the partition, or while an update has not come so far,
    /// the current one.
    fn revision_for(&self, ordinal: usize) -> &ControllerRevision {
        let start = identity::start(self.set);
        let current = match partition(self.set) {
            Some(partition) => ordinal < start + partition,
            None => {
                let replicas =
                    self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);
                updates_itself(self.set) && ordinal < start + usize::try_from(replicas).unwrap_or(0)
            }
        };
        if current { self.current } else { self.update }
    }

    /// The steps to do now, in order.
    pub(super) fn plan(&self) -> Result<Vec<Step>, Error> {
        let places = Places::of(self.set, self.pods);
        let mut steps = Vec::new();
        let settled = self.fill(&places, &mut steps) && self.shrink(&places, &mut steps);
        if settled && updates_itself(self.set) {
            self.roll(&places, &mut steps)?;
        }
        Ok(steps)
    }

    /// Sees to the pods there should be; whether that leaves room for anything else now.
    fn fill(&self, places: &Places, steps: &mut Vec<Step>) -> bool {
        let ordered = is_ordered(self.set);
        for (index, place) in places.wanted.iter().enumerate() {
            let ordinal = identity::start(self.set) + index;
            let Some(pod) = place else {
                let revision = self.revision_for(ordinal);
                steps.push(Step::Create(Box::new(identity::make(self.set, revision, ordinal)), ordinal));
                if ordered {
                    return false;
                }
                continue;
            };
            if pods::is_finished(pod) {
                if !is_terminating(pod) {
                    steps.push(Step::Delete(Arc::clone(pod)));
                }
                if ordered {
                    return false;
                }
                continue;
            }
            if pods::phase(pod) == "Pending" {
                steps.push(Step::Claims(ordinal));
            }
            if ordered && !self.is_available(pod) {
                return false;
            }
            if !is_terminating(pod) && !identity::is_itself(self.set, pod, ordinal) {
                steps.push(Step::Repair(Arc::clone(pod), ordinal));
            }
        }
        true
    }

    /// Sees to the pods there should not be.
    fn shrink(&self, places: &Places, steps: &mut Vec<Step>) -> bool {
        let ordered = is_ordered(self.set);
        let all = places.wanted.iter().flatten().chain(places.condemned.iter().rev());
        let first_sick = all.into_iter().find(|pod| !self.is_available(pod)).map(|pod| pod.name().to_owned());
        for pod in &places.condemned {
            if is_terminating(pod) {
                if ordered {
                    return false;
                }
                continue;
            }
            // Removing a healthy pod while another is sick would leave even fewer; the sick one itself may go.
            if ordered && !self.is_available(pod) && first_sick.as_deref() != Some(pod.name()) {
                return false;
            }
            steps.push(Step::Delete(Arc::clone(pod)));
            if ordered {
                return false;
            }
        }
        true
    }

    /// Replaces pods of other revisions, from the highest ordinal down to the partition.
    fn roll(&self, places: &Places, steps: &mut Vec<Step>) -> Result<(), Error> {
        let from = partition(self.set).unwrap_or(0).min(places.wanted.len());
        let candidates = &places.wanted[from..];
        let rolling =
            self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        match rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) {
            Some(limit) => {
                let total = i32::try_from(places.wanted.len()).unwrap_or(i32::MAX);
                let limit = usize::try_from(scaled(limit, total, false)?.max(1)).unwrap_or(1);
                let sick = places.wanted.iter().filter(|place| self.is_sick(place.as_ref())).count();
                let old = candidates.iter().rev().flatten().filter(|pod| self.is_old(pod));
                steps.extend(old.take(limit.saturating_sub(sick)).map(|pod| Step::Delete(Arc::clone(pod))));
            }
            None => steps.extend(self.next_to_replace(candidates).map(Step::Delete)),
        }
        Ok(())
    }

    fn is_sick(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_none_or(|pod| !self.is_available(pod))
    }

    fn is_old(&self, pod: &Pod) -> bool {
        identity::revision(pod) != self.update.name() && !is_terminating(pod)
    }

    /// The highest pod of another revision, be it well or not, once all above it are well.
    fn next_to_replace(&self, candidates: &[Option<Arc<Pod>>]) -> Option<Arc<Pod>> {
        for place in candidates.iter().rev() {
            match place {
                Some(pod) if self.is_old(pod) => return Some(Arc::clone(pod)),
                place if self.is_sick(place.as_ref()) => return None,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pods::tests::pod, revisions::REVISION_LABEL};
    use k8s_openapi::api::apps::v1::{
        RollingUpdateStatefulSetStrategy, StatefulSetSpec, StatefulSetUpdateStrategy,
    };
    use proptest::prelude::*;

    fn revision(name: &str) -> ControllerRevision {
        let mut revision = ControllerRevision::default();
        revision.metadata.name = Some(name.to_owned());
        revision
    }

    fn set(replicas: i32, parallel: bool, partition: i32) -> StatefulSet {
        let mut set = StatefulSet {
            spec: StatefulSetSpec {
                replicas: Some(replicas),
                pod_management_policy: parallel.then(|| "Parallel".to_owned()),
                update_strategy: Some(StatefulSetUpdateStrategy {
                    rolling_update: Some(RollingUpdateStatefulSetStrategy {
                        partition: Some(partition),
                        max_unavailable: None,
                    }),
                    ..StatefulSetUpdateStrategy::default()
                }),
                ..StatefulSetSpec::default()
            },
            ..StatefulSet::default()
        };
        set.metadata.name = Some("db".to_owned());
        set
    }

    fn member(set: &StatefulSet, ordinal: usize, revision: &str, ready: bool) -> Arc<Pod> {
        let mut pod = pod(&format!("db-{ordinal}"), "n", "Running", ready.then_some(1));
        pod.metadata.labels = Some([(REVISION_LABEL.to_owned(), revision.to_owned())].into());
        Arc::new(identity::repair(set, &pod, ordinal))
    }

    fn plan(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
        let (current, update) = (revision("old"), revision("new"));
        let now = Timestamp::from_second(100).unwrap();
        let steps = View { set, pods, current: &current, update: &update, now }.plan().unwrap();
        steps
            .iter()
            .map(|step| match step {
                Step::Create(pod, ordinal) => format!("create {ordinal} {}", identity::revision(pod)),
                Step::Delete(pod) => format!("delete {}", pod.name()),
                Step::Claims(ordinal) => format!("claims {ordinal}"),
                Step::Repair(_, ordinal) => format!("repair {ordinal}"),
            })
            .collect()
    }

    #[test]
    fn an_ordered_set_grows_one_ready_pod_at_a_time() {
        let set = set(3, false, 0);
        assert_eq!(plan(&set, &[]), ["create 0 new"]);
        assert!(plan(&set, &[member(&set, 0, "new", false)]).is_empty());
        assert_eq!(plan(&set, &[member(&set, 0, "new", true)]), ["create 1 new"]);
    }

    #[test]
    fn a_parallel_set_does_all_at_once() {
        let set = set(3, true, 0);
        assert_eq!(
            plan(&set, &[member(&set, 5, "new", true)]),
            ["create 0 new", "create 1 new", "create 2 new", "delete db-5"]
        );
    }

    #[test]
    fn a_set_shrinks_from_its_highest_ordinal() {
        let set = set(1, false, 0);
        let pods: Vec<_> = (0..3).map(|ordinal| member(&set, ordinal, "new", true)).collect();
        assert_eq!(plan(&set, &pods), ["delete db-2"]);
        let sick = [pods[0].clone(), member(&set, 1, "new", false), pods[2].clone()];
        assert_eq!(plan(&set, &sick), ["delete db-2"]);
        let sick = [pods[0].clone(), member(&set, 1, "new", false), member(&set, 2, "new", false)];
        assert!(plan(&set, &sick).is_empty(), "two are sick: the lower one is waited for");
    }

    #[test]
    fn an_update_goes_down_to_the_partition() {
        let set = set(3, false, 1);
        let old: Vec<_> = (0..3).map(|ordinal| member(&set, ordinal, "old", true)).collect();
        assert_eq!(plan(&set, &old), ["delete db-2"]);
        let half = [old[0].clone(), old[1].clone(), member(&set, 2, "new", true)];
        assert_eq!(plan(&set, &half), ["delete db-1"]);
        let done = [old[0].clone(), member(&set, 1, "new", true), member(&set, 2, "new", true)];
        assert!(plan(&set, &done).is_empty());
        assert_eq!(plan(&set, &done[1..]), ["create 0 old"]);
    }

    #[test]
    fn a_sick_old_pod_of_a_parallel_set_is_replaced_when_its_turn_comes() {
        let mut set = set(3, true, 0);
        let sick = member(&set, 2, "old", false);
        let (low, middle) = (member(&set, 0, "old", true), member(&set, 1, "old", true));
        assert_eq!(plan(&set, &[low.clone(), middle.clone(), sick]), ["delete db-2"]);
        let new = member(&set, 2, "new", false);
        assert!(plan(&set, &[low.clone(), middle.clone(), new]).is_empty(), "the new one is waited for");
        let rolling = set.spec.update_strategy.as_mut().unwrap().rolling_update.as_mut().unwrap();
        rolling.max_unavailable = Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(2));
        let well = member(&set, 2, "old", true);
        assert_eq!(plan(&set, &[low, middle, well]), ["delete db-2", "delete db-1"]);
    }

    proptest! {
        /// Whatever pods there are: never two of one ordinal, and an ordered set does one thing at a time.
        #[test]
        fn one_pod_per_ordinal_and_one_step_at_a_time(
            replicas in 0..6i32,
            parallel in any::<bool>(),
            partition in 0..6i32,
            states in prop::collection::btree_map(0..8usize, (any::<bool>(), any::<bool>()), 0..8),
        ) {
            let set = set(replicas, parallel, partition);
            let pods: Vec<_> = states
                .iter()
                .map(|(ordinal, (new, ready))| member(&set, *ordinal, if *new { "new" } else { "old" }, *ready))
                .collect();
            let steps = plan(&set, &pods);
            let created: Vec<_> = steps.iter().filter(|step| step.starts_with("create")).collect();
            for step in &created {
                let ordinal: usize = step.split(' ').nth(1).unwrap().parse().unwrap();
                prop_assert!(!states.contains_key(&ordinal) && ordinal < replicas as usize);
            }
            prop_assert!(parallel || steps.len() <= 1);
        }
    }
}
