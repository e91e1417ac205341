//! Whether a Job is over, and how. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{indexes::Indexes, tally::Tally, verdict::is_indexed};
use crate::pods;

/// The two stages of each ending: the decision, after which pods are only removed, and the end itself when none is
/// left.
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUCCESS_MET: &str = "SuccessCriteriaMet";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Ending {
    fn failure(reason: &str, message: &str) -> Option<Self> {
        Some(Self { success: false, reason: reason.to_owned(), message: message.to_owned() })
    }

    pub(super) fn success(reason: &str, message: String) -> Self {
        Self { success: true, reason: reason.to_owned(), message }
    }

    pub(super) fn decision(&self) -> &'static str {
        if self.success { SUCCESS_MET } else { FAILURE_TARGET }
    }

    pub(super) fn end(&self) -> &'static str {
        if self.success { "Complete" } else { "Failed" }
    }
}

/// A condition of the Job that holds.
pub(super) fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    in_status(job.status.as_ref()?, kind).filter(|condition| condition.status == "True")
}

fn in_status<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// Sets a condition; whether that changed anything.
pub(super) fn set(
    status: &mut JobStatus,
    kind: &str,
    value: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let value = if value { "True" } else { "False" };
    let known = in_status(status, kind);
    let same = known.is_some_and(|known| known.status == value && known.reason.as_deref() == Some(reason));
    // A condition that never held need not be denied.
    if same || (known.is_none() && value == "False") {
        return false;
    }
    let since =
        known.filter(|known| known.status == value).and_then(|known| known.last_transition_time.clone());
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    });
    true
}

/// The ending that was decided before.
pub(super) fn decided(job: &Job) -> Option<Ending> {
    let (condition, success) = match (condition(job, SUCCESS_MET), condition(job, FAILURE_TARGET)) {
        (Some(condition), _) => (condition, true),
        (None, Some(condition)) => (condition, false),
        (None, None) => return None,
    };
    Some(Ending {
        success,
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    })
}

/// The ending that what was counted decides, other than plain completion.
pub(super) fn decide(spec: &JobSpec, tally: &Tally, pods: &[Arc<Pod>], now: Timestamp) -> Option<Ending> {
    if let Some(text) = &tally.fails_job {
        return Ending::failure("PodFailurePolicy", text);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if tally.failed > limit || restarted_too_often(spec, pods, limit) {
        return Ending::failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if time_left(spec, &tally.status, now).is_some_and(|left| left.is_zero()) {
        return Ending::failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if is_indexed(spec) {
        return failed_indexes(spec, tally).or_else(|| meets_success_policy(spec, tally));
    }
    None
}

/// Containers that restart in place fail without their pod failing.
fn restarted_too_often(spec: &JobSpec, pods: &[Arc<Pod>], limit: i32) -> bool {
    let on_failure =
        spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
    if !on_failure {
        return false;
    }
    let restarts: i32 = pods
        .iter()
        .filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses).flatten())
        .map(|container| container.restart_count)
        .sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// How much of the deadline is left, if there is one and it runs.
pub(super) fn time_left(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    if spec.suspend.unwrap_or(false) {
        return None;
    }
    let deadline = Duration::from_secs(u64::try_from(spec.active_deadline_seconds?).unwrap_or(0));
    let started = status.start_time.as_ref()?.0;
    Some(deadline.saturating_sub(Duration::try_from(now.duration_since(started)).unwrap_or_default()))
}

fn failed_indexes(spec: &JobSpec, tally: &Tally) -> Option<Ending> {
    spec.backoff_limit_per_index?;
    let failed = tally.failed_indexes.len();
    let most = spec.max_failed_indexes.and_then(|most| usize::try_from(most).ok());
    if most.is_some_and(|most| failed > most) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return Ending::failure("MaxFailedIndexesExceeded", text);
    }
    let all = usize::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
    if failed > 0 && failed + tally.completed.len() >= all {
        return Ending::failure("FailedIndexes", "Job has failed indexes");
    }
    None
}

fn meets_success_policy(spec: &JobSpec, tally: &Tally) -> Option<Ending> {
    let completions = u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
    let rules = spec.success_policy.as_ref()?.rules.iter();
    let done = tally.completed.len();
    let met = rules.enumerate().find(|(_, rule)| {
        let count = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, completions);
                let have = tally.completed.overlap(&wanted);
                wanted.len() > 0 && (have == wanted.len() || count.is_some_and(|count| have >= count))
            }
            None => done > 0 && count.is_some_and(|count| done >= count),
        }
    });
    met.map(|(number, _)| Ending::success("SuccessPolicy", format!("Matched rules at index {number}")))
}
