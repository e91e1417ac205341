//! The whole status of a pod, from everything known about it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodCondition, PodIP,
    PodStatus,
};

use super::containers::Context;
use super::{conditions, phase, qos, resources};
use crate::pod::observed::{self, Observed};
use crate::pod::spec;
use crate::probes::ProbeView;

/// What the node knows that is not about containers.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts<'a> {
    pub host_ips: &'a [IpAddr],
    /// Conditions about a change of the pod's resources.
    pub resizes: &'a [PodCondition],
}

/// Phase, reason and message imposed from outside (deadline exceeded, evicted, rejected).
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub phase: &'static str,
    pub reason: String,
    pub message: String,
    /// Says that the node ends the pod, not the pod itself.
    pub disruption: bool,
}

/// Computes the status the API should have. `old` is our last word, or the API's where we have none. `terminal`: no
/// container will be started again.
pub fn generate(
    context: Context<'_>,
    old: &PodStatus,
    probes: &ProbeView<'_>,
    node: NodeFacts<'_>,
    terminal: bool,
    verdict: Option<&Verdict>,
) -> PodStatus {
    let (pod, observed) = (context.pod, context.observed);
    let mut status = convert(context, old);
    let for_phase: Vec<ContainerStatus> = joined(&status.container_statuses, &status.init_container_statuses);
    let active = observed::any_active_regular_started(pod, observed);
    let computed = phase::compute(pod, &for_phase, terminal, active);
    let phase = settle_phase(pod, old, computed);
    if old.phase.as_deref() == Some(phase) {
        let api = pod.status.as_ref();
        status.reason = old.reason.clone().or_else(|| api.and_then(|s| s.reason.clone()));
        status.message = old.message.clone().or_else(|| api.and_then(|s| s.message.clone()));
    }
    status.phase = Some(phase.to_owned());
    if let Some(verdict) = verdict.filter(|_| !spec::is_terminal_phase(spec::phase(pod))) {
        status.phase = Some(verdict.phase.to_owned());
        status.reason = Some(verdict.reason.clone());
        status.message = Some(verdict.message.clone());
    }
    probes.fill(pod, &mut status);
    let all = joined(&status.init_container_statuses, &status.container_statuses);
    let phase = status.phase.clone().unwrap_or_default();
    status.conditions = Some(conditions::all(pod, old, observed, &all, &phase));
    if !terminal {
        status.conditions.get_or_insert_default().extend(node.resizes.iter().cloned());
    }
    if let Some(verdict) = verdict.filter(|verdict| verdict.disruption) {
        let all = status.conditions.get_or_insert_default();
        all.retain(|condition| condition.type_ != conditions::DISRUPTION_TARGET);
        all.push(conditions::disruption(pod, verdict));
    }
    resources::fill(pod, context.actuated, &mut status);
    status.observed_generation = pod.metadata.generation;
    set_addresses(pod, old, observed, node, &mut status);
    status
}

/// The last status of a pod whose containers have all ended: whatever is not known to have ended well has failed,
/// and the phase is terminal.
pub fn conclude(pod: &Pod, status: &mut PodStatus) {
    let initialized =
        spec::init_containers(pod).is_empty() || any_started(status.container_statuses.as_deref());
    let end = |container: &mut ContainerStatus| {
        let ended = container.state.as_ref().is_some_and(|state| state.terminated.is_some());
        if !ended {
            container.state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    reason: Some("ContainerStatusUnknown".to_owned()),
                    message: Some(
                        "The container could not be located when the pod was terminated".to_owned(),
                    ),
                    exit_code: 137,
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
        }
    };
    if initialized {
        status.container_statuses.iter_mut().flatten().for_each(end);
    }
    // Init containers after the last one that began never had their turn.
    let inits = status.init_container_statuses.as_deref_mut().unwrap_or_default();
    let begun = inits.iter().rposition(began).map_or(0, |index| index + 1);
    inits[..begun].iter_mut().for_each(end);
    if !spec::is_static(pod) && !spec::is_terminal_phase(status.phase.as_deref()) {
        status.phase = Some("Failed".to_owned());
        for condition in status.conditions.iter_mut().flatten() {
            if matches!(condition.type_.as_str(), "Ready" | "ContainersReady") {
                condition.status = "False".to_owned();
                condition.reason = Some("PodFailed".to_owned());
                condition.message = None;
            }
        }
    }
}

fn began(status: &ContainerStatus) -> bool {
    let has = |state: &Option<ContainerState>| {
        state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    has(&status.state) || has(&status.last_state)
}

fn any_started(statuses: Option<&[ContainerStatus]>) -> bool {
    statuses.unwrap_or_default().iter().any(began)
}

fn joined(a: &Option<Vec<ContainerStatus>>, b: &Option<Vec<ContainerStatus>>) -> Vec<ContainerStatus> {
    a.iter().flatten().chain(b.iter().flatten()).cloned().collect()
}

fn convert(context: Context<'_>, old: &PodStatus) -> PodStatus {
    let pod = context.pod;
    let non_empty = |list: Vec<ContainerStatus>| Some(list).filter(|list| !list.is_empty());
    let ephemeral: Vec<Container> = spec::ephemeral_containers(pod).iter().map(spec::as_container).collect();
    let of = |containers: &[Container], old: &Option<Vec<ContainerStatus>>, kind| {
        non_empty(context.statuses(containers, old.as_deref().unwrap_or_default(), kind))
    };
    PodStatus {
        qos_class: Some(qos::of(pod).as_str().to_owned()),
        container_statuses: of(spec::containers(pod), &old.container_statuses, spec::Kind::Regular),
        init_container_statuses: of(
            spec::init_containers(pod),
            &old.init_container_statuses,
            spec::Kind::Init,
        ),
        ephemeral_container_statuses: of(
            &ephemeral,
            &old.ephemeral_container_statuses,
            spec::Kind::Ephemeral,
        ),
        // Written by others, kept.
        resource_claim_statuses: pod.status.as_ref().and_then(|s| s.resource_claim_statuses.clone()),
        nominated_node_name: pod.status.as_ref().and_then(|s| s.nominated_node_name.clone()),
        ..PodStatus::default()
    }
}

/// A pod never leaves a terminal phase, neither ours nor the API's.
fn settle_phase(pod: &Pod, old: &PodStatus, computed: &'static str) -> &'static str {
    let terminal = |phase: Option<&str>| match phase {
        Some("Succeeded") => Some("Succeeded"),
        Some("Failed") => Some("Failed"),
        _ => None,
    };
    if let Some(api) = terminal(spec::phase(pod)) {
        return api;
    }
    if terminal(Some(computed)).is_none() {
        return terminal(old.phase.as_deref()).unwrap_or(computed);
    }
    computed
}

/// One address per family, the family of the node's first address first.
pub fn sort_ips(ips: &[IpAddr], host: &[IpAddr]) -> Vec<IpAddr> {
    let v4_first = host.first().is_none_or(IpAddr::is_ipv4);
    let first = |v4: bool| ips.iter().find(|ip| ip.is_ipv4() == v4).copied();
    first(v4_first).into_iter().chain(first(!v4_first)).collect()
}

fn set_addresses(
    pod: &Pod,
    old: &PodStatus,
    observed: &Observed,
    node: NodeFacts<'_>,
    status: &mut PodStatus,
) {
    let mut ips: Vec<String> =
        sort_ips(&observed.ips, node.host_ips).iter().map(ToString::to_string).collect();
    if spec::host_network(pod) {
        ips = node.host_ips.iter().take(2).map(ToString::to_string).collect();
    } else if ips.is_empty() && spec::is_terminal_phase(status.phase.as_deref()) {
        // A finished pod keeps the address it had.
        ips = old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    status.pod_ip = ips.first().cloned();
    status.pod_ips =
        Some(ips.into_iter().map(|ip| PodIP { ip }).collect::<Vec<_>>()).filter(|l| !l.is_empty());
    status.host_ip = node.host_ips.first().map(ToString::to_string);
    status.host_ips =
        Some(node.host_ips.iter().take(2).map(|ip| HostIP { ip: ip.to_string() }).collect::<Vec<_>>())
            .filter(|l| !l.is_empty());
}
