//! Counting the pods of a Job. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    batch::v1::{JobSpec, JobStatus, UncountedTerminatedPods},
    core::v1::Pod,
};
use knarr_client::Cached;

use super::{
    finalizer::has_finalizer,
    indexes::Indexes,
    verdict::{Failure, has_failed, has_succeeded, index, index_failures, is_indexed, judge},
};
use crate::pods;

/// Pods written into the status at once: it must not outgrow what can be stored.
const MOST_UNCOUNTED: usize = 500;

/// A Job's pods, counted.
pub(super) struct Tally {
    /// The status with the counts as they now are.
    pub(super) status: JobStatus,
    /// All successes and failures, those not yet counted included.
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) completed: Indexes,
    pub(super) failed_indexes: Indexes,
    /// Pods that were seen to have ended just now.
    pub(super) newly_succeeded: usize,
    pub(super) newly_failed: usize,
    /// A failed pod for which the failure policy fails the whole Job.
    pub(super) fails_job: Option<String>,
    /// Ended pods that may lose their finalizer once the status is written.
    pub(super) release: Vec<Arc<Pod>>,
    /// The last failed pod of each index that is to be tried again; it keeps its finalizer until then.
    pub(super) retry: BTreeMap<u32, Arc<Pod>>,
}

/// How far a Job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// It has succeeded; the pods that are left are of no interest.
    Succeeded,
    /// It has failed or goes away; the pods that are left have failed with it.
    Failed,
}

/// Counts the pods. No pod is waited for once the end is decided.
pub(super) fn count(spec: &JobSpec, status: &JobStatus, pods: &[Arc<Pod>], stage: Stage) -> Tally {
    let completions = u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
    let mut tally = Tally {
        status: status.clone(),
        succeeded: 0,
        failed: 0,
        completed: Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions),
        failed_indexes: Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions),
        newly_succeeded: 0,
        newly_failed: 0,
        fails_job: None,
        release: Vec::new(),
        retry: BTreeMap::new(),
    };
    tally.settle(pods);
    if is_indexed(spec) {
        tally.find_failed_indexes(spec, pods);
    }
    tally.take_ended(spec, pods, stage);
    tally.sum(spec);
    tally
}

fn uncounted(status: &mut JobStatus) -> (&mut Vec<String>, &mut Vec<String>) {
    let lists = status.uncounted_terminated_pods.get_or_insert_default();
    (lists.succeeded.get_or_insert_default(), lists.failed.get_or_insert_default())
}

impl Tally {
    /// Counts the pods that were noted before and have lost their finalizer.
    fn settle(&mut self, pods: &[Arc<Pod>]) {
        let held: BTreeSet<&str> =
            pods.iter().filter(|pod| has_finalizer(pod)).map(|pod| pod.uid()).collect();
        let (succeeded, failed) = uncounted(&mut self.status);
        let before = (succeeded.len(), failed.len());
        succeeded.retain(|uid| held.contains(uid.as_str()));
        failed.retain(|uid| held.contains(uid.as_str()));
        let settled = (before.0 - succeeded.len(), before.1 - failed.len());
        add(&mut self.status.succeeded, settled.0);
        add(&mut self.status.failed, settled.1);
    }

    /// Notes the pods that ended.
    fn take_ended(&mut self, spec: &JobSpec, pods: &[Arc<Pod>], stage: Stage) {
        let over = stage != Stage::Running;
        let mut noted = 0;
        for pod in pods.iter().filter(|pod| has_finalizer(pod)) {
            if noted >= MOST_UNCOUNTED {
                break;
            }
            let failed = has_failed(pod, spec);
            if failed && let Failure::FailJob(text) = judge(spec, pod) {
                self.fails_job.get_or_insert(text);
            }
            if !(failed || has_succeeded(pod) || over) {
                continue;
            }
            if !over && self.retry.values().any(|kept| kept.uid() == pod.uid()) {
                noted += usize::from(self.note_failure(spec, pod));
                continue;
            }
            self.release.push(Arc::clone(pod));
            noted += usize::from(if has_succeeded(pod) {
                self.note_success(spec, pod)
            } else if failed || stage == Stage::Failed {
                self.note_failure(spec, pod)
            } else {
                false
            });
        }
    }

    fn note_success(&mut self, spec: &JobSpec, pod: &Pod) -> bool {
        if is_indexed(spec) {
            let Some(index) = index(pod, spec).filter(|&index| !self.completed.contains(index)) else {
                return false;
            };
            self.completed.insert(index);
            self.newly_succeeded += 1;
            return true;
        }
        let (succeeded, failed) = uncounted(&mut self.status);
        if succeeded.iter().chain(failed.iter()).any(|uid| uid == pod.uid()) {
            return false;
        }
        succeeded.push(pod.uid().to_owned());
        self.newly_succeeded += 1;
        true
    }

    fn note_failure(&mut self, spec: &JobSpec, pod: &Pod) -> bool {
        let belongs = !is_indexed(spec) || index(pod, spec).is_some();
        let (_, failed) = uncounted(&mut self.status);
        let known = failed.iter().any(|uid| uid == pod.uid());
        if !belongs || known || judge(spec, pod) == Failure::Ignore {
            return false;
        }
        failed.push(pod.uid().to_owned());
        self.newly_failed += 1;
        true
    }

    /// Which indexes have failed for good, and which failed pods must be kept until they are tried again.
    fn find_failed_indexes(&mut self, spec: &JobSpec, pods: &[Arc<Pod>]) {
        let Some(limit) = spec.backoff_limit_per_index else { return };
        let of_index = |pod: &&Arc<Pod>| index(pod, spec).is_some();
        let failed = |pod: &Pod| has_failed(pod, spec);
        for pod in pods.iter().filter(of_index).filter(|pod| has_finalizer(pod) && failed(pod)) {
            let Some(index) = index(pod, spec) else { continue };
            let verdict = judge(spec, pod);
            let counted = i32::from(verdict != Failure::Ignore);
            if verdict == Failure::FailIndex || index_failures(pod) + counted > limit {
                self.failed_indexes.insert(index);
                continue;
            }
            let newest = self.retry.entry(index).or_insert_with(|| Arc::clone(pod));
            if index_failures(newest) < index_failures(pod) {
                *newest = Arc::clone(pod);
            }
        }
        let failed_indexes = self.failed_indexes.clone();
        let is_tried_again = |index: u32, kept: &Pod| {
            pods.iter().any(|pod| {
                super::verdict::index(pod, spec) == Some(index)
                    && (index_failures(pod) > index_failures(kept)
                        || pods::is_active(pod)
                        || has_succeeded(pod))
            })
        };
        let completed = &self.completed;
        self.retry.retain(|&index, kept| {
            !failed_indexes.contains(index) && !completed.contains(index) && !is_tried_again(index, kept)
        });
    }

    fn sum(&mut self, spec: &JobSpec) {
        let (succeeded, failed) = uncounted(&mut self.status);
        let (succeeded, failed) = (succeeded.len(), failed.len());
        if is_indexed(spec) {
            self.succeeded = i32::try_from(self.completed.len()).unwrap_or(i32::MAX);
            self.status.succeeded = Some(self.succeeded).filter(|&count| count != 0);
            self.status.completed_indexes = Some(self.completed.to_string()).filter(|text| !text.is_empty());
            if spec.backoff_limit_per_index.is_some() {
                self.status.failed_indexes = Some(self.failed_indexes.to_string());
            }
        } else {
            self.succeeded = self.status.succeeded.unwrap_or(0) + i32::try_from(succeeded).unwrap_or(0);
        }
        self.failed = self.status.failed.unwrap_or(0) + i32::try_from(failed).unwrap_or(0);
        // The list is there even when empty: it says that counting goes by finalizers.
        let lists =
            self.status.uncounted_terminated_pods.get_or_insert_with(UncountedTerminatedPods::default);
        for list in [&mut lists.succeeded, &mut lists.failed] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                *list = None;
            }
        }
    }

    /// Whether every ended pod has been counted.
    pub(super) fn is_settled(&self) -> bool {
        let lists = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        lists.succeeded.is_none() && lists.failed.is_none()
    }
}

fn add(counter: &mut Option<i32>, count: usize) {
    let sum = counter.unwrap_or(0).saturating_add(i32::try_from(count).unwrap_or(i32::MAX));
    *counter = Some(sum).filter(|&sum| sum != 0);
}

#[cfg(test)]
mod tests {
    use super::{super::finalizer::FINALIZER, *};
    use crate::pods::tests::pod;
    use proptest::prelude::*;

    fn held(name: &str, phase: &str, held: bool) -> Arc<Pod> {
        let mut pod = pod(name, "n", phase, None);
        pod.metadata.finalizers = held.then(|| vec![FINALIZER.to_owned()]);
        Arc::new(pod)
    }

    proptest! {
        /// Finalizers go at any time after the status was written, and every look may be repeated.
        #[test]
        fn every_ended_pod_is_counted_exactly_once(
            outcomes in prop::collection::vec(any::<bool>(), 1..30),
            order in prop::collection::vec((any::<u8>(), any::<bool>()), 0..80),
        ) {
            let (spec, mut status) = (JobSpec::default(), JobStatus::default());
            let phase = |good: bool| if good { "Succeeded" } else { "Failed" };
            let mut pods: Vec<_> =
                outcomes.iter().enumerate().map(|(i, &good)| held(&i.to_string(), phase(good), true)).collect();
            let mut may_go: BTreeSet<String> = BTreeSet::new();
            for (pick, write) in order {
                let tally = count(&spec, &status, &pods, Stage::Running);
                if write {
                    may_go = tally.release.iter().map(|pod| pod.name().to_owned()).collect();
                    status = tally.status;
                }
                let index = usize::from(pick) % pods.len();
                if may_go.contains(pods[index].name()) {
                    pods[index] = held(pods[index].name(), crate::pods::phase(&pods[index]), false);
                }
            }
            for _ in 0..3 {
                let tally = count(&spec, &status, &pods, Stage::Running);
                status = tally.status;
                pods = pods.iter().map(|pod| held(pod.name(), crate::pods::phase(pod), false)).collect();
            }
            let good = outcomes.iter().filter(|good| **good).count();
            prop_assert_eq!(status.succeeded.unwrap_or(0) as usize, good);
            prop_assert_eq!(status.failed.unwrap_or(0) as usize, outcomes.len() - good);
        }
    }
}
