//! What to do about a pod: pure, from what is wanted and what is seen. The rules are upstream's `computePodActions`.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use knarr_runtime::cri::ContainerState;

use super::observed::{self, Observed, Seen};
use super::{restart, spec};
use crate::probes::ProbeResults;
use crate::resize::Amounts;
use crate::resize::values::{self, Change};

/// Why a container is killed; decides which grace period applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    StartupProbe,
    LivenessProbe,
    FailedPostStartHook,
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Kill {
    pub id: String,
    pub name: String,
    /// Ends up in the Killing event.
    pub message: String,
    pub reason: KillReason,
}

/// The work one sync has to do, in this order: kill, make a sandbox, start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Actions {
    /// Stop every container and the sandbox.
    pub kill_pod: bool,
    pub create_sandbox: bool,
    pub sandbox_id: Option<String>,
    pub attempt: u32,
    /// Indexes into the pod's init containers.
    pub init_to_start: Vec<usize>,
    /// Indexes into the pod's containers.
    pub to_start: Vec<usize>,
    /// Indexes into the pod's ephemeral containers.
    pub ephemeral_to_start: Vec<usize>,
    pub to_kill: Vec<Kill>,
    /// Running containers whose CPU or memory is to change in place.
    pub to_resize: Vec<Resize>,
    /// The pod's own limits change.
    pub resize_pod: bool,
}

impl Actions {
    pub fn is_empty(&self) -> bool {
        !self.kill_pod
            && !self.create_sandbox
            && !self.resize_pod
            && self.to_resize.is_empty()
            && self.to_kill.is_empty()
            && self.to_start.is_empty()
            && self.init_to_start.is_empty()
            && self.ephemeral_to_start.is_empty()
    }
}

/// A running container, by id and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    pub id: String,
    pub name: String,
}

/// What is known beside the pod and what is seen of it.
#[derive(Clone, Copy)]
struct Known<'a> {
    probes: &'a ProbeResults,
    /// What running containers have been given.
    actuated: &'a Amounts,
}

/// Compares the pod with what is seen of it.
pub fn compute(pod: &Pod, observed: &Observed, probes: &ProbeResults, actuated: &Amounts) -> Actions {
    let (changed, attempt, sandbox_id) = observed::sandbox_changed(pod, observed);
    let mut actions =
        Actions { kill_pod: changed, create_sandbox: changed, sandbox_id, attempt, ..Actions::default() };
    if changed {
        start_over(pod, observed, &mut actions);
        return actions;
    }
    actions.ephemeral_to_start = spec::ephemeral_containers(pod)
        .iter()
        .enumerate()
        .filter(|(_, c)| observed.latest(&c.name).is_none())
        .map(|(index, _)| index)
        .collect();
    let known = Known { probes, actuated };
    actions.resize_pod = values::pod_changes(spec::spec(pod).resources.as_ref(), actuated);
    let initialized = init_actions(pod, observed, known, &mut actions);
    if actions.kill_pod || !initialized {
        return actions;
    }
    regular_actions(pod, observed, known, &mut actions);
    actions
}

/// There is no usable sandbox: everything starts from the beginning, or nothing does.
fn start_over(pod: &Pod, observed: &Observed, actions: &mut Actions) {
    let never = spec::restart_policy(pod) == "Never";
    if never && actions.attempt != 0 && !observed.containers.is_empty() {
        // The containers ran once; that was their chance.
        actions.create_sandbox = false;
        return;
    }
    let to_start: Vec<usize> = spec::containers(pod)
        .iter()
        .enumerate()
        .filter(|(_, c)| {
            let policy = c.restart_policy.as_deref().unwrap_or(spec::restart_policy(pod));
            !(policy == "OnFailure" && succeeded(c, observed))
        })
        .map(|(index, _)| index)
        .collect();
    if to_start.is_empty() && observed::any_regular_created(pod, observed) {
        actions.create_sandbox = false;
    } else if spec::init_containers(pod).is_empty() {
        actions.to_start = to_start;
    } else {
        actions.init_to_start = vec![0];
    }
}

fn succeeded(container: &Container, observed: &Observed) -> bool {
    observed
        .latest(&container.name)
        .is_some_and(|seen| seen.state == ContainerState::Exited && seen.exit_code == 0)
}

fn definition_changed(container: &Container, seen: &Seen) -> bool {
    seen.hash != observed::container_hash(container)
}

fn unknown_state(prefix: &str) -> String {
    format!("{prefix} is in \"unknown\" state, try killing it before restart")
}

fn init_failed(seen: &Seen) -> bool {
    match seen.state {
        ContainerState::Exited => seen.exit_code != 0,
        ContainerState::Unknown => true,
        ContainerState::Created | ContainerState::Running => false,
    }
}

/// Decides on init containers; `true` when regular ones may be looked at. Walks backwards because finished init
/// containers may be gone from the runtime: the last one seen tells how far the pod has come.
fn init_actions(pod: &Pod, observed: &Observed, known: Known<'_>, actions: &mut Actions) -> bool {
    let own = spec::spec(pod).resources.as_ref();
    let inits = spec::init_containers(pod);
    if inits.is_empty() {
        return true;
    }
    let mut initialized = spec::containers(pod).iter().any(|c| {
        observed
            .latest(&c.name)
            .is_some_and(|seen| matches!(seen.state, ContainerState::Created | ContainerState::Running))
    });
    let mut previously = initialized;
    for (index, container) in inits.iter().enumerate().rev() {
        let sidecar = spec::is_restartable_init(container);
        let Some(seen) = observed.latest(&container.name) else {
            if previously && sidecar {
                actions.init_to_start.push(index);
            }
            continue;
        };
        if previously && !sidecar {
            continue;
        }
        let last = index + 1 == inits.len();
        match seen.state {
            ContainerState::Created => actions.init_to_start.push(index),
            ContainerState::Running if sidecar => {
                if sidecar_passed_startup(container, seen, known.probes, index, actions) {
                    if last {
                        initialized = true;
                    } else if !previously {
                        actions.init_to_start.push(index + 1);
                    }
                    check_running_sidecar(own, container, seen, known, index, actions);
                }
            }
            ContainerState::Running => {
                if values::change(own, container, known.actuated) != Change::Nothing {
                    actions.to_resize.push(resize(seen));
                }
            }
            ContainerState::Exited if sidecar => actions.init_to_start.push(index),
            ContainerState::Exited if !init_failed(seen) => {
                if last {
                    initialized = true;
                } else {
                    actions.init_to_start.push(index + 1);
                }
            }
            ContainerState::Exited => {
                if !restart::will_start(container, pod, observed) {
                    return give_up(actions);
                }
                actions.init_to_start.push(index);
            }
            ContainerState::Unknown => {
                let policy = container.restart_policy.as_deref().unwrap_or(spec::restart_policy(pod));
                if !sidecar && policy == "Never" {
                    return give_up(actions);
                }
                actions.to_kill.push(kill(seen, unknown_state("Init container"), KillReason::Other));
                actions.init_to_start.push(index);
            }
        }
        previously = true;
    }
    if !previously {
        actions.init_to_start.push(0);
    }
    actions.init_to_start.reverse();
    initialized
}

fn give_up(actions: &mut Actions) -> bool {
    actions.kill_pod = true;
    actions.init_to_start.clear();
    false
}

fn kill(seen: &Seen, message: String, reason: KillReason) -> Kill {
    Kill { id: seen.id.clone(), name: seen.name.clone(), message, reason }
}

/// `false` while the sidecar has not started (or failed to).
fn sidecar_passed_startup(
    container: &Container,
    seen: &Seen,
    probes: &ProbeResults,
    index: usize,
    actions: &mut Actions,
) -> bool {
    if container.startup_probe.is_none() {
        return true;
    }
    match probes.startup(&seen.id) {
        Some(true) => true,
        Some(false) => {
            let message = format!("Init container {} failed startup probe", container.name);
            actions.to_kill.push(kill(seen, message, KillReason::StartupProbe));
            actions.init_to_start.push(index);
            false
        }
        None => false,
    }
}

fn resize(seen: &Seen) -> Resize {
    Resize { id: seen.id.clone(), name: seen.name.clone() }
}

fn check_running_sidecar(
    pod: Option<&ResourceRequirements>,
    container: &Container,
    seen: &Seen,
    known: Known<'_>,
    index: usize,
    actions: &mut Actions,
) {
    let (message, reason) = if definition_changed(container, seen) {
        (format!("Init container {} definition changed", container.name), KillReason::Other)
    } else if container.liveness_probe.is_some() && known.probes.liveness(&seen.id) == Some(false) {
        (format!("Init container {} failed liveness probe", container.name), KillReason::LivenessProbe)
    } else {
        match values::change(pod, container, known.actuated) {
            Change::Nothing => return,
            Change::Update => return actions.to_resize.push(resize(seen)),
            Change::Restart => {
                actions.resize_pod = true;
                (resize_restarts(container), KillReason::Other)
            }
        }
    };
    actions.to_kill.push(kill(seen, message, reason));
    actions.init_to_start.push(index);
}

fn resize_restarts(container: &Container) -> String {
    format!("Container {} resize requires restart", container.name)
}

fn regular_actions(pod: &Pod, observed: &Observed, known: Known<'_>, actions: &mut Actions) {
    let (own, probes) = (spec::spec(pod).resources.as_ref(), known.probes);
    let mut keep = 0;
    for (index, container) in spec::containers(pod).iter().enumerate() {
        let seen = match observed.latest(&container.name) {
            Some(seen) if seen.running() => seen,
            other => {
                if restart::will_start(container, pod, observed) {
                    actions.to_start.push(index);
                    if let Some(seen) = other.filter(|s| s.state == ContainerState::Unknown) {
                        actions.to_kill.push(kill(seen, unknown_state("Container"), KillReason::Other));
                    }
                }
                continue;
            }
        };
        let policy = container.restart_policy.as_deref().unwrap_or(spec::restart_policy(pod));
        let mut again = policy != "Never";
        let (mut message, reason) = if definition_changed(container, seen) {
            again = true;
            (format!("Container {} definition changed", container.name), KillReason::Other)
        } else if probes.liveness(&seen.id) == Some(false) {
            (format!("Container {} failed liveness probe", container.name), KillReason::LivenessProbe)
        } else if probes.startup(&seen.id) == Some(false) {
            (format!("Container {} failed startup probe", container.name), KillReason::StartupProbe)
        } else {
            match values::change(own, container, known.actuated) {
                Change::Restart => {
                    actions.resize_pod = true;
                    actions.to_start.push(index);
                    actions.to_kill.push(kill(seen, resize_restarts(container), KillReason::Other));
                    continue;
                }
                Change::Update => actions.to_resize.push(resize(seen)),
                Change::Nothing => {}
            }
            keep += 1;
            continue;
        };
        if again {
            message.push_str(", will be restarted");
            actions.to_start.push(index);
        }
        actions.to_kill.push(kill(seen, message, reason));
    }
    if keep == 0 && actions.to_start.is_empty() {
        actions.kill_pod = true;
        // Sidecars must not keep a finished pod alive.
        actions.init_to_start.clear();
    }
}

#[cfg(test)]
mod tests;
