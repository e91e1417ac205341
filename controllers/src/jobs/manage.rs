//! How many pods of a Job should run, and what a new one looks like. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};
use knarr_client::Cached;

use super::{
    finalizer::FINALIZER,
    tally::Tally,
    verdict::{
        Failure, INDEX, INDEX_FAILURES, index, index_failures, is_indexed, judge, replaces_only_failed,
    },
};
use crate::pods::{self, control::from_template, deletion_order};

/// Pods created or deleted in one go.
const BURST: usize = 500;
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10 * 60));

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) create: Vec<Pod>,
    /// When to look again because something may only be created later.
    pub(super) wait: Option<Duration>,
}

/// How long to wait after this many failures in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => BACKOFF.0.saturating_mul(1u32.checked_shl(n - 1).unwrap_or(u32::MAX)).min(BACKOFF.1),
    }
}

/// The pods to create or delete while the Job goes on. `cooling` is how long nothing may be created because pods
/// failed lately.
pub(super) fn plan(
    job: &Job,
    spec: &JobSpec,
    tally: &Tally,
    active: &[Arc<Pod>],
    terminating: usize,
    cooling: Duration,
    now: Timestamp,
) -> Plan {
    if spec.suspend.unwrap_or(false) {
        return Plan { delete: active.to_vec(), ..Plan::default() };
    }
    let wanted = wanted(spec, tally.succeeded, active.len());
    let mut plan = Plan { delete: surplus(spec, tally, active, wanted, now), ..Plan::default() };
    plan.delete.truncate(BURST);
    if !plan.delete.is_empty() {
        return plan;
    }
    let held = if replaces_only_failed(spec) { terminating } else { 0 };
    let missing = wanted.saturating_sub(held + active.len()).min(BURST);
    if missing == 0 {
        return plan;
    }
    if spec.backoff_limit_per_index.is_none() && !cooling.is_zero() {
        plan.wait = Some(cooling);
    } else if is_indexed(spec) {
        create_indexed(job, spec, tally, active, missing, now, &mut plan);
    } else {
        plan.create = std::iter::repeat_with(|| make(job, spec, None)).take(missing).collect();
    }
    plan
}

fn wanted(spec: &JobSpec, succeeded: i32, active: usize) -> usize {
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let parallelism = count(spec.parallelism.unwrap_or(1));
    match spec.completions {
        // A work queue: once one has succeeded there is no more work to be begun.
        None if succeeded > 0 => active,
        None => parallelism,
        Some(completions) => count(completions.saturating_sub(succeeded)).min(parallelism),
    }
}

/// Active pods that are too many: of an index that is done or has another pod, and then the least useful.
fn surplus(
    spec: &JobSpec,
    tally: &Tally,
    active: &[Arc<Pod>],
    wanted: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut kept: Vec<Arc<Pod>> = active.to_vec();
    let mut surplus = Vec::new();
    if is_indexed(spec) {
        let mut seen = std::collections::BTreeSet::new();
        deletion_order::sort(&mut kept, now, |_| 0);
        kept.reverse();
        kept.retain(|pod| {
            let keep = index(pod, spec).is_some_and(|index| {
                !tally.completed.contains(index)
                    && !tally.failed_indexes.contains(index)
                    && seen.insert(index)
            });
            if !keep {
                surplus.push(Arc::clone(pod));
            }
            keep
        });
    }
    let too_many = active.len().saturating_sub(wanted).saturating_sub(surplus.len());
    deletion_order::sort(&mut kept, now, |_| 0);
    surplus.extend(kept.into_iter().take(too_many));
    surplus
}

fn create_indexed(
    job: &Job,
    spec: &JobSpec,
    tally: &Tally,
    active: &[Arc<Pod>],
    missing: usize,
    now: Timestamp,
    plan: &mut Plan,
) {
    let completions = u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
    let taken: std::collections::BTreeSet<u32> = active.iter().filter_map(|pod| index(pod, spec)).collect();
    let free = (0..completions).filter(|&index| {
        !taken.contains(&index) && !tally.completed.contains(index) && !tally.failed_indexes.contains(index)
    });
    for index in free.take(missing) {
        let failed = tally.retry.get(&index);
        let failures =
            failed.map_or(0, |pod| index_failures(pod) + i32::from(judge(spec, pod) != Failure::Ignore));
        let wait = failed.map_or(Duration::ZERO, |pod| cooling(pod, failures, now));
        if wait.is_zero() {
            plan.create.push(make(job, spec, Some((index, failures))));
        } else {
            plan.wait = plan.wait.into_iter().chain([wait]).min();
        }
    }
}

/// How long the index of a failed pod still has to wait.
fn cooling(pod: &Pod, failures: i32, now: Timestamp) -> Duration {
    let status = pod.status.as_ref();
    let ended = status.and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let ended =
        ended.filter_map(|container| container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    let since = ended.map(|time| time.0).max();
    let since = since.or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0));
    let Some(since) = since.or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0)) else {
        return Duration::ZERO;
    };
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    backoff(u32::try_from(failures).unwrap_or(0)).saturating_sub(passed)
}

/// A pod of the Job; of an index, with how often that index has failed.
fn make(job: &Job, spec: &JobSpec, of_index: Option<(u32, i32)>) -> Pod {
    let mut pod = from_template(&spec.template, job);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some((index, failures)) = of_index else { return pod };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if spec.backoff_limit_per_index.is_some() {
        annotations.insert(INDEX_FAILURES.to_owned(), failures.to_string());
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    pod.metadata.generate_name = Some(format!("{}-{index}-", job.name()));
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{}-{index}", job.name()));
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let env = container.env.get_or_insert_default();
        if env.iter().any(|variable| variable.name == "JOB_COMPLETION_INDEX") {
            continue;
        }
        let field_ref =
            ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
        env.push(EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value_from: Some(EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() }),
            ..EnvVar::default()
        });
    }
    pod
}

/// Pods of the Job that are neither finished nor on their way out.
pub(super) fn active(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallelism_and_what_is_left_decide_how_many_run() {
        let spec = |completions, parallelism| JobSpec {
            completions,
            parallelism: Some(parallelism),
            ..JobSpec::default()
        };
        assert_eq!(wanted(&spec(Some(5), 3), 0, 0), 3);
        assert_eq!(wanted(&spec(Some(5), 3), 4, 1), 1);
        assert_eq!(wanted(&spec(Some(5), 3), 7, 0), 0);
        assert_eq!(wanted(&spec(None, 3), 0, 1), 3);
        assert_eq!(wanted(&spec(None, 3), 1, 2), 2);
    }

    #[test]
    fn failures_back_off_up_to_ten_minutes() {
        let seconds = |n| backoff(n).as_secs();
        assert_eq!([0, 1, 2, 3, 7, 99].map(seconds), [0, 10, 20, 40, 600, 600]);
    }
}
