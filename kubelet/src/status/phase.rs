//! A pod's phase, from its container statuses. The rules are upstream's `getPhase`.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use crate::pod::{restart, spec};

#[derive(Debug, Default)]
struct Count {
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
}

enum State {
    Running {
        started: bool,
    },
    Ended(i32),
    /// Waiting; the code of the run before, where there was one.
    Waiting(Option<i32>),
    Unknown,
}

fn state(statuses: &[ContainerStatus], name: &str) -> Option<State> {
    let status = statuses.iter().find(|s| s.name == name)?;
    let Some(state) = &status.state else { return Some(State::Unknown) };
    Some(if state.running.is_some() {
        State::Running { started: status.started.unwrap_or(false) }
    } else if let Some(ended) = &state.terminated {
        State::Ended(ended.exit_code)
    } else if state.waiting.is_some() {
        let before = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        State::Waiting(before.map(|t| t.exit_code))
    } else {
        State::Unknown
    })
}

/// Computes the phase. `terminal`: no container will be started again, whatever the policies say.
/// `has_initialized`: a regular container of this sandbox has been started before.
pub fn compute(
    pod: &Pod,
    statuses: &[ContainerStatus],
    terminal: bool,
    has_initialized: bool,
) -> &'static str {
    let policy = spec::restart_policy(pod);
    let mut pending_inits = 0;
    for container in spec::init_containers(pod).iter().filter(|c| !spec::is_restartable_init(c)) {
        match state(statuses, &container.name) {
            Some(State::Ended(code) | State::Waiting(Some(code))) => {
                if code != 0 && !restart::should_restart(container, policy, code) {
                    return "Failed";
                }
            }
            None | Some(State::Running { .. } | State::Waiting(None) | State::Unknown) => pending_inits += 1,
        }
    }
    let mut count = Count::default();
    let mut pending_sidecars = 0;
    for container in spec::init_containers(pod).iter().filter(|c| spec::is_restartable_init(c)) {
        match state(statuses, &container.name) {
            None => count.unknown += 1,
            Some(State::Running { started }) => {
                pending_sidecars += u32::from(!started);
                count.running += 1;
            }
            // A sidecar that ended says nothing about the pod.
            Some(State::Ended(_) | State::Waiting(Some(_))) => {}
            Some(State::Waiting(None)) => {
                pending_sidecars += 1;
                count.waiting += 1;
            }
            Some(State::Unknown) => {
                pending_sidecars += 1;
                count.unknown += 1;
            }
        }
    }
    for container in spec::containers(pod) {
        count.add(container, policy, state(statuses, &container.name));
    }
    if pending_inits > 0 || (pending_sidecars > 0 && !has_initialized) || count.waiting > 0 {
        return "Pending";
    }
    count.phase(terminal && !spec::is_static(pod))
}

impl Count {
    fn add(&mut self, container: &Container, policy: &str, state: Option<State>) {
        let for_good = |code| u32::from(!restart::should_restart(container, policy, code));
        match state {
            None | Some(State::Unknown) => self.unknown += 1,
            Some(State::Running { .. }) => self.running += 1,
            Some(State::Ended(code)) => {
                self.stopped += 1;
                self.stopped_for_good += for_good(code);
                self.succeeded += u32::from(code == 0);
            }
            Some(State::Waiting(Some(code))) => {
                self.stopped += 1;
                self.stopped_for_good += for_good(code);
            }
            Some(State::Waiting(None)) => self.waiting += 1,
        }
    }

    fn phase(&self, terminal: bool) -> &'static str {
        if self.unknown > 0 {
            return "Pending";
        }
        if self.running > 0 {
            return "Running";
        }
        if self.stopped == 0 {
            return "Pending";
        }
        if !terminal && self.stopped != self.stopped_for_good {
            // Some container is about to be started again.
            return "Running";
        }
        if self.stopped == self.succeeded { "Succeeded" } else { "Failed" }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, PodSpec,
    };

    use super::*;

    fn pod(policy: &str, inits: &[(&str, bool)], regular: &[&str]) -> Pod {
        let container = |name: &str, sidecar: bool| Container {
            name: name.into(),
            restart_policy: sidecar.then(|| "Always".into()),
            ..Container::default()
        };
        Pod {
            spec: Some(PodSpec {
                restart_policy: Some(policy.into()),
                init_containers: Some(inits.iter().map(|(n, s)| container(n, *s)).collect()),
                containers: regular.iter().map(|n| container(n, false)).collect(),
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    fn status(name: &str, what: &str) -> ContainerStatus {
        let ended =
            |exit_code| Some(ContainerStateTerminated { exit_code, ..ContainerStateTerminated::default() });
        let mut status = ContainerStatus { name: name.into(), ..ContainerStatus::default() };
        let mut state = ContainerState::default();
        match what {
            "run" => state.running = Some(ContainerStateRunning::default()),
            "ok" => state.terminated = ended(0),
            "bad" => state.terminated = ended(1),
            "wait" => state.waiting = Some(ContainerStateWaiting::default()),
            "again" => {
                state.waiting = Some(ContainerStateWaiting::default());
                status.last_state =
                    Some(ContainerState { terminated: ended(1), ..ContainerState::default() });
            }
            other => panic!("{other}"),
        }
        status.state = Some(state);
        status
    }

    #[test]
    fn phases_follow_upstreams_table() {
        let two = ["a", "b"];
        type Case = (&'static str, &'static [(&'static str, &'static str)], bool, &'static str);
        let table: &[Case] = &[
            ("Always", &[("a", "run"), ("b", "run")], false, "Running"),
            ("Always", &[("a", "ok"), ("b", "bad")], false, "Running"),
            ("Always", &[("a", "ok"), ("b", "ok")], true, "Succeeded"),
            ("Always", &[("a", "run"), ("b", "wait")], false, "Pending"),
            ("Always", &[("a", "run"), ("b", "again")], false, "Running"),
            ("Always", &[("a", "run")], false, "Pending"),
            ("Always", &[], false, "Pending"),
            ("Never", &[("a", "ok"), ("b", "ok")], false, "Succeeded"),
            ("Never", &[("a", "ok"), ("b", "bad")], false, "Failed"),
            ("Never", &[("a", "run"), ("b", "bad")], false, "Running"),
            ("OnFailure", &[("a", "ok"), ("b", "bad")], false, "Running"),
            ("OnFailure", &[("a", "ok"), ("b", "ok")], false, "Succeeded"),
            ("OnFailure", &[("a", "ok"), ("b", "bad")], true, "Failed"),
        ];
        for (policy, seen, terminal, phase) in table {
            let statuses: Vec<_> = seen.iter().map(|(n, w)| status(n, w)).collect();
            assert_eq!(
                compute(&pod(policy, &[], &two), &statuses, *terminal, false),
                *phase,
                "{policy} {seen:?}"
            );
        }
    }

    #[test]
    fn init_containers_hold_the_pod_in_pending_and_can_fail_it() {
        let pod = pod("Never", &[("i", false)], &["a"]);
        for (what, phase) in [("run", "Pending"), ("wait", "Pending"), ("bad", "Failed")] {
            assert_eq!(
                compute(&pod, &[status("i", what), status("a", "wait")], false, false),
                phase,
                "{what}"
            );
        }
    }

    #[test]
    fn an_unstarted_sidecar_holds_only_a_pod_that_never_ran() {
        let pod = pod("Always", &[("s", true)], &["a"]);
        let seen = [status("s", "run"), status("a", "run")];
        assert_eq!(compute(&pod, &seen, false, false), "Pending");
        assert_eq!(compute(&pod, &seen, false, true), "Running");
    }
}
