//! What a pod of a Job means for it. Pure.

use k8s_openapi::api::{
    batch::v1::{Job, JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule},
    core::v1::{ContainerStatus, Pod},
};
use knarr_client::Cached;

use crate::pods;

pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

pub(super) fn spec(job: &Job) -> JobSpec {
    job.spec.clone().unwrap_or_default()
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The completion index of a pod, if it has one below the Job's completions.
pub(super) fn index(pod: &Pod, spec: &JobSpec) -> Option<u32> {
    let completions = u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0);
    annotation(pod, INDEX)?.parse().ok().filter(|&index| index < completions)
}

/// How often its index had failed before this pod.
pub(super) fn index_failures(pod: &Pod) -> i32 {
    annotation(pod, INDEX_FAILURES).and_then(|count| count.parse().ok()).unwrap_or(0)
}

pub(super) fn has_succeeded(pod: &Pod) -> bool {
    pods::phase(pod) == "Succeeded"
}

/// Whether the pod counts as failed: it says so, or it is going away without having ended (unless only what has
/// really failed is to be replaced).
pub(super) fn has_failed(pod: &Pod, spec: &JobSpec) -> bool {
    pods::phase(pod) == "Failed"
        || (!replaces_only_failed(spec) && pod.metadata.deletion_timestamp.is_some() && !has_succeeded(pod))
}

/// What the failure policy says about a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Count,
    Ignore,
    /// The whole Job fails, for this reason.
    FailJob(String),
    FailIndex,
}

/// The first rule that matches decides; without one the failure counts.
pub(super) fn judge(spec: &JobSpec, pod: &Pod) -> Failure {
    let rules = spec.pod_failure_policy.as_ref().map(|policy| policy.rules.as_slice()).unwrap_or_default();
    for (number, rule) in rules.iter().enumerate() {
        let Some(what) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignore,
            "FailIndex" => Failure::FailIndex,
            "FailJob" => Failure::FailJob(format!("{what} matching FailJob rule at index {number}")),
            _ => Failure::Count,
        };
    }
    Failure::Count
}

/// What in the pod a rule matches.
fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let (namespace, name) = (pod.namespace(), pod.name());
    if let Some(codes) = &rule.on_exit_codes {
        let status = pod.status.as_ref()?;
        let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let (container, code) = all.into_iter().find_map(|container| exit_code(codes, container))?;
        return Some(format!(
            "Container {container} for pod {namespace}/{name} failed with exit code {code}"
        ));
    }
    rule.on_pod_conditions.iter().flatten().find_map(|pattern| {
        let condition = pods::condition(pod, &pattern.type_)?;
        let wanted = pattern.status.as_deref().unwrap_or("True");
        (condition.status == wanted)
            .then(|| format!("Pod {namespace}/{name} has condition {}", pattern.type_))
    })
}

fn exit_code<'a>(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    container: &'a ContainerStatus,
) -> Option<(&'a str, i32)> {
    let meant = codes.container_name.as_ref().is_none_or(|name| *name == container.name);
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = codes.values.contains(&code);
    let fits = match codes.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (meant && code != 0 && fits).then_some((&container.name, code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;
    use k8s_openapi::api::{
        batch::v1::PodFailurePolicy,
        core::v1::{ContainerState, ContainerStateTerminated},
    };

    #[test]
    fn the_first_matching_rule_decides() {
        let rule = |action: &str, operator: &str, values: &[i32]| PodFailurePolicyRule {
            action: action.into(),
            on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                operator: operator.into(),
                values: values.to_vec(),
                container_name: None,
            }),
            on_pod_conditions: None,
        };
        let rules = vec![rule("Ignore", "In", &[3]), rule("FailJob", "NotIn", &[1])];
        let spec = JobSpec { pod_failure_policy: Some(PodFailurePolicy { rules }), ..JobSpec::default() };
        let ended = |code| {
            let mut pod = pod("p", "n", "Failed", None);
            let terminated = Some(ContainerStateTerminated { exit_code: code, ..Default::default() });
            pod.status.as_mut().unwrap().container_statuses = Some(vec![ContainerStatus {
                name: "main".into(),
                state: Some(ContainerState { terminated, ..ContainerState::default() }),
                ..ContainerStatus::default()
            }]);
            pod
        };
        assert_eq!(judge(&spec, &ended(3)), Failure::Ignore);
        assert_eq!(judge(&spec, &ended(1)), Failure::Count);
        let text = "Container main for pod /p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(judge(&spec, &ended(42)), Failure::FailJob(text.into()));
    }
}
