//! The pod conditions the node owns, with upstream's reasons and messages.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodCondition, PodStatus};

use crate::pod::observed::{self, Observed};
use crate::pod::{restart, spec};

use super::generate::Verdict;

pub const OWNED: [&str; 8] = [
    "PodScheduled",
    "Ready",
    "Initialized",
    "ContainersReady",
    "PodReadyToStartContainers",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

pub const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// The node ends the pod for want of something.
pub fn disruption(pod: &Pod, verdict: &Verdict) -> PodCondition {
    condition(pod, DISRUPTION_TARGET, true, "TerminationByKubelet", verdict.message.clone())
}

/// Ours to write, and nobody else's.
pub fn owned(kind: &str) -> bool {
    OWNED.contains(&kind)
}

fn condition(pod: &Pod, kind: &str, status: bool, reason: &str, message: String) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
        message: Some(message).filter(|m| !m.is_empty()),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn yes(pod: &Pod, kind: &str) -> PodCondition {
    condition(pod, kind, true, "", String::new())
}

fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn find<'a>(statuses: &'a [ContainerStatus], container: &Container) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|s| s.name == container.name)
}

/// Names of containers without a status, and of those whose status does not satisfy `good`.
fn sort_out<'a>(
    containers: impl Iterator<Item = &'a Container>,
    statuses: &[ContainerStatus],
    good: impl Fn(&Container, &ContainerStatus) -> bool,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut unknown, mut bad) = (Vec::new(), Vec::new());
    for container in containers {
        match find(statuses, container) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !good(container, status) => bad.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    (unknown, bad)
}

fn explain(unknown: &[&str], bad: &[&str], what: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", list(unknown)));
    }
    if !bad.is_empty() {
        parts.push(format!("containers with {what} status: {}", list(bad)));
    }
    parts.join(", ")
}

pub fn ready_to_start_containers(pod: &Pod, observed: &Observed) -> PodCondition {
    let (needs_sandbox, ..) = observed::sandbox_changed(pod, observed);
    condition(pod, "PodReadyToStartContainers", !needs_sandbox, "", String::new())
}

pub fn initialized(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "Initialized";
    let (unknown, incomplete) = sort_out(spec::init_containers(pod).iter(), statuses, |container, status| {
        if spec::is_restartable_init(container) { status.started.unwrap_or(false) } else { status.ready }
    });
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, KIND, true, "PodCompleted", String::new());
    }
    let any_started = spec::containers(pod).iter().any(|c| {
        find(statuses, c).is_some_and(|status| {
            let has = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
                state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
            };
            status.started.unwrap_or(false) || has(&status.state) || has(&status.last_state)
        })
    });
    if any_started {
        return yes(pod, KIND);
    }
    let message = explain(&unknown, &incomplete, "incomplete");
    if message.is_empty() {
        return yes(pod, KIND);
    }
    condition(pod, KIND, false, "ContainersNotInitialized", message)
}

pub fn containers_ready(pod: &Pod, statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "ContainersReady";
    let relevant = spec::init_containers(pod)
        .iter()
        .filter(|c| spec::is_restartable_init(c))
        .chain(spec::containers(pod));
    let (unknown, unready) = sort_out(relevant, statuses, |_, status| status.ready);
    if phase == "Succeeded" && unknown.is_empty() {
        return condition(pod, KIND, false, "PodCompleted", String::new());
    }
    if phase == "Failed" {
        return condition(pod, KIND, false, "PodFailed", String::new());
    }
    let message = explain(&unknown, &unready, "unready");
    if message.is_empty() {
        return yes(pod, KIND);
    }
    condition(pod, KIND, false, "ContainersNotReady", message)
}

/// Ready: all containers are, and every readiness gate's condition is True among `others`.
pub fn ready(pod: &Pod, others: &[PodCondition], statuses: &[ContainerStatus], phase: &str) -> PodCondition {
    const KIND: &str = "Ready";
    let containers = containers_ready(pod, statuses, phase);
    if containers.status != "True" {
        return PodCondition { type_: KIND.to_owned(), ..containers };
    }
    let messages: Vec<String> = spec::spec(pod)
        .readiness_gates
        .as_deref()
        .unwrap_or_default()
        .iter()
        .filter_map(|gate| {
            let wanted = &gate.condition_type;
            match others.iter().find(|c| c.type_ == *wanted) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate \"{wanted}\" does not exist."
                )),
                Some(found) if found.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{wanted}\" is not \"True\", but {}",
                    found.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if messages.is_empty() {
        return yes(pod, KIND);
    }
    condition(pod, KIND, false, "ReadinessGatesNotReady", messages.join(", "))
}

pub fn scheduled(pod: &Pod) -> PodCondition {
    yes(pod, "PodScheduled")
}

fn all_containers_restarting(pod: &Pod, observed: &Observed, phase: &str) -> PodCondition {
    const KIND: &str = "AllContainersRestarting";
    let no = |reason: &str| condition(pod, KIND, false, reason, String::new());
    match phase {
        "Succeeded" => no("PodCompleted"),
        "Failed" => no("PodFailed"),
        _ if restart::all_are_to_restart(pod, observed) => {
            let message = "container exited with restart policy rule".to_owned();
            condition(pod, KIND, true, "RestartAllContainersStarted", message)
        }
        _ => no(""),
    }
}

/// Conditions of other writers are kept as the API has them; ours are computed, in upstream's order.
pub fn all(
    pod: &Pod,
    old: &PodStatus,
    observed: &Observed,
    statuses: &[ContainerStatus],
    phase: &str,
) -> Vec<PodCondition> {
    let api = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let mut conditions: Vec<PodCondition> = api.iter().filter(|c| !owned(&c.type_)).cloned().collect();
    // An eviction decided here is in our last status before the API has it.
    let disrupted = old.conditions.iter().flatten().find(|c| c.type_ == DISRUPTION_TARGET);
    if let Some(disrupted) = disrupted {
        conditions.retain(|c| c.type_ != disrupted.type_);
        conditions.push(disrupted.clone());
    }
    conditions.push(ready_to_start_containers(pod, observed));
    conditions.push(initialized(pod, statuses, phase));
    conditions.push(ready(pod, &conditions, statuses, phase));
    conditions.push(containers_ready(pod, statuses, phase));
    conditions.push(scheduled(pod));
    if restart::could_restart_all(pod) {
        conditions.push(all_containers_restarting(pod, observed, phase));
    }
    conditions
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodReadinessGate, PodSpec};

    use super::*;

    fn pod(gates: &[&str]) -> Pod {
        let mut pod = Pod {
            spec: Some(PodSpec {
                containers: vec![Container { name: "a".into(), ..Container::default() }],
                init_containers: Some(vec![Container { name: "i".into(), ..Container::default() }]),
                readiness_gates: Some(
                    gates.iter().map(|g| PodReadinessGate { condition_type: (*g).into() }).collect(),
                ),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        pod.metadata.generation = Some(3);
        pod
    }

    fn status(name: &str, ready: bool) -> ContainerStatus {
        ContainerStatus { name: name.into(), ready, ..ContainerStatus::default() }
    }

    #[test]
    fn an_unready_container_is_named_and_makes_the_pod_unready() {
        let (pod, statuses) = (pod(&[]), [status("i", true), status("a", false)]);
        let found = ready(&pod, &[], &statuses, "Running");
        assert_eq!((found.status.as_str(), found.reason.as_deref()), ("False", Some("ContainersNotReady")));
        assert_eq!(found.message.as_deref(), Some("containers with unready status: [a]"));
        assert_eq!(found.observed_generation, Some(3));
    }

    #[test]
    fn a_gate_without_its_condition_keeps_the_pod_unready() {
        let (pod, statuses) = (pod(&["example.com/gate"]), [status("i", true), status("a", true)]);
        let found = ready(&pod, &[], &statuses, "Running");
        assert_eq!(found.reason.as_deref(), Some("ReadinessGatesNotReady"));
        assert_eq!(containers_ready(&pod, &statuses, "Running").status, "True");
        let gate = PodCondition {
            type_: "example.com/gate".into(),
            status: "True".into(),
            ..PodCondition::default()
        };
        assert_eq!(ready(&pod, &[gate], &statuses, "Running").status, "True");
    }

    #[test]
    fn a_finished_pod_is_complete_and_not_ready() {
        let (pod, statuses) = (pod(&[]), [status("i", true), status("a", false)]);
        assert_eq!(initialized(&pod, &statuses, "Succeeded").reason.as_deref(), Some("PodCompleted"));
        assert_eq!(ready(&pod, &[], &statuses, "Succeeded").reason.as_deref(), Some("PodCompleted"));
        assert_eq!(ready(&pod, &[], &statuses, "Failed").reason.as_deref(), Some("PodFailed"));
    }

    #[test]
    fn init_containers_that_are_not_done_are_named() {
        let found = initialized(&pod(&[]), &[status("i", false), status("a", false)], "Pending");
        assert_eq!(found.reason.as_deref(), Some("ContainersNotInitialized"));
        assert_eq!(found.message.as_deref(), Some("containers with incomplete status: [i]"));
    }
}
