//! Pods. The status column sums up phase, conditions and containers in one word.

use jiff::Timestamp;

use super::super::{Cell, RowCondition, age};
use super::View;

static SUCCEEDED: &[RowCondition] = &[RowCondition {
    kind: "Completed",
    status: "True",
    reason: "Succeeded",
    message: "The pod has completed successfully.",
}];
static FAILED: &[RowCondition] =
    &[RowCondition { kind: "Completed", status: "True", reason: "Failed", message: "The pod failed." }];

pub(super) fn conditions(pod: View<'_>) -> &'static [RowCondition] {
    match pod.str("status.phase") {
        "Succeeded" => SUCCEEDED,
        "Failed" => FAILED,
        _ => &[],
    }
}

pub(super) fn cells(pod: View<'_>) -> Vec<Cell<'_>> {
    let summary = Summary::of(pod);
    let restarts = match (summary.restarts, summary.last_restart) {
        (count, Some(last)) if count != 0 => format!("{count} ({} ago)", age(Some(last), pod.now)),
        (count, _) => count.to_string(),
    };
    let ip = pod.items("status.podIPs").next().map(|ip| ip.str("ip")).filter(|ip| !ip.is_empty());
    vec![
        pod.name(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        pod.age(),
        ip.unwrap_or("<none>").into(),
        pod.str_or("spec.nodeName", "<none>").into(),
        pod.str_or("status.nominatedNodeName", "<none>").into(),
        readiness_gates(pod).into(),
    ]
}

/// What the containers of a pod amount to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// A pod's init containers that have been looked at.
#[derive(Default)]
struct Init {
    /// Why the pod is still initializing.
    blocked: Option<String>,
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    sidecar_restarts: i64,
    sidecar_last_restart: Option<Timestamp>,
}

impl Summary {
    fn of(pod: View<'_>) -> Self {
        let sidecars = pod.items("spec.initContainers").filter(|container| is_sidecar(*container)).count();
        let init = Init::of(pod);
        let mut summary = Self {
            reason: first_reason(pod),
            ready: init.ready,
            total: pod.count("spec.containers") + sidecars,
            restarts: init.restarts,
            last_restart: init.last_restart,
        };
        let initializing = init.blocked.is_some();
        if let Some(blocked) = init.blocked {
            summary.reason = blocked;
        }
        if !initializing || pod.is_true("status.conditions", "Initialized") {
            summary.restarts = init.sidecar_restarts;
            summary.last_restart = init.sidecar_last_restart;
            summary.add_containers(pod);
        }
        if pod.is_deleted() {
            match (pod.str("status.reason"), pod.str("status.phase")) {
                ("NodeLost", _) => summary.reason = "Unknown".to_owned(),
                (_, "Succeeded" | "Failed") => {}
                _ => summary.reason = "Terminating".to_owned(),
            }
        }
        summary
    }

    fn add_containers(&mut self, pod: View<'_>) {
        let mut has_running = false;
        let mut error = None;
        for container in pod.items("status.containerStatuses").rev() {
            self.restarts += container.int("restartCount");
            self.last_restart = self.last_restart.max(finished(container));
            let state = container.at("state");
            let terminated = state.at("terminated");
            if !state.str("waiting.reason").is_empty() {
                self.reason = state.str("waiting.reason").to_owned();
            } else if !terminated.is_null() {
                self.reason = termination(terminated);
                if terminated.int("exitCode") != 0 {
                    error = Some(self.reason.clone());
                }
            } else if container.bool("ready") && !state.at("running").is_null() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            // Some containers are done; what the others do says more.
            if has_running && pod.items("status.conditions").any(is_ready) {
                self.reason = "Running".to_owned();
            } else if let Some(error) = error {
                self.reason = error;
            } else if has_running {
                self.reason = "NotReady".to_owned();
            }
        }
    }
}

fn is_ready(condition: View<'_>) -> bool {
    condition.str("type") == "Ready" && condition.str("status") == "True"
}

impl Init {
    /// Looks at init containers in order, up to the one the pod waits for.
    fn of(pod: View<'_>) -> Self {
        let mut init = Self::default();
        for (i, status) in pod.items("status.initContainerStatuses").enumerate() {
            let name = status.str("name");
            let sidecar = pod
                .items("spec.initContainers")
                .any(|container| container.str("name") == name && is_sidecar(container));
            init.restarts += status.int("restartCount");
            init.last_restart = init.last_restart.max(finished(status));
            if sidecar {
                init.sidecar_restarts += status.int("restartCount");
                init.sidecar_last_restart = init.sidecar_last_restart.max(finished(status));
            }
            let terminated = status.at("state.terminated");
            let waiting = status.str("state.waiting.reason");
            if !terminated.is_null() && terminated.int("exitCode") == 0 {
                continue;
            }
            if sidecar && status.bool("started") {
                init.ready += usize::from(status.bool("ready"));
                continue;
            }
            init.blocked = Some(if !terminated.is_null() {
                format!("Init:{}", termination(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{i}/{}", pod.count("spec.initContainers"))
            });
            break;
        }
        init
    }
}

fn first_reason(pod: View<'_>) -> String {
    let gated = |condition: View<'_>| {
        condition.str("type") == "PodScheduled" && condition.str("reason") == "SchedulingGated"
    };
    if pod.items("status.conditions").any(gated) {
        return "SchedulingGated".to_owned();
    }
    match pod.str("status.reason") {
        "" => pod.str("status.phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn is_sidecar(container: View<'_>) -> bool {
    container.str("restartPolicy") == "Always"
}

fn finished(status: View<'_>) -> Option<Timestamp> {
    status.time("lastState.terminated.finishedAt")
}

fn termination(terminated: View<'_>) -> String {
    match (terminated.str("reason"), terminated.int("signal")) {
        ("", 0) => format!("ExitCode:{}", terminated.int("exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn readiness_gates(pod: View<'_>) -> String {
    let gates = pod.items("spec.readinessGates");
    if gates.len() == 0 {
        return "<none>".to_owned();
    }
    let all = gates.len();
    let met = gates.filter(|gate| pod.is_true("status.conditions", gate.str("conditionType"))).count();
    format!("{met}/{all}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Ready, status and restarts.
    fn summary(pod: Value) -> [String; 3] {
        let now = "2024-01-01T01:00:00Z".parse().expect("valid");
        let cells = cells(View::new(&pod, now));
        [1, 2, 3].map(|i| match &cells[i] {
            Cell::Text(text) => text.to_string(),
            other => panic!("{other:?} is no text"),
        })
    }

    fn running(ready: bool) -> Value {
        json!({"name": "c", "ready": ready, "restartCount": 0, "state": {"running": {}}})
    }

    #[test]
    fn a_running_pod_counts_its_ready_containers() {
        let pod = json!({
            "spec": {"containers": [{}, {}]},
            "status": {"phase": "Running", "containerStatuses": [running(true), running(false)]},
        });
        assert_eq!(summary(pod), ["1/2", "Running", "0"]);
    }

    #[test]
    fn the_first_container_in_trouble_names_the_status() {
        let crashing = json!({
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2024-01-01T00:58:00Z"}},
        });
        let pod = json!({
            "spec": {"containers": [{}, {}]},
            "status": {"phase": "Running", "containerStatuses": [crashing, running(true)]},
        });
        assert_eq!(summary(pod), ["1/2", "CrashLoopBackOff", "3 (2m ago)"]);
    }

    #[test]
    fn init_containers_hold_the_pod_up_until_they_are_done() {
        let spec = json!({"initContainers": [{"name": "a"}, {"name": "s", "restartPolicy": "Always"}, {"name": "b"}], "containers": [{}]});
        let done = json!({"name": "a", "state": {"terminated": {"exitCode": 0}}});
        let sidecar = json!({"name": "s", "started": true, "ready": true, "state": {"running": {}}});
        let waits = json!({"name": "b", "state": {"waiting": {"reason": "PodInitializing"}}});
        let pod = json!({"spec": spec, "status": {"phase": "Pending", "initContainerStatuses": [done, sidecar, waits]}});
        assert_eq!(summary(pod.clone()), ["1/2", "Init:2/3", "0"]);
        let mut failed = pod;
        failed["status"]["initContainerStatuses"][2] =
            json!({"name": "b", "state": {"terminated": {"exitCode": 2}}});
        assert_eq!(summary(failed)[1], "Init:ExitCode:2");
    }

    #[test]
    fn deletion_shows_unless_the_pod_has_ended() {
        let pod = |phase| json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"containers": [{}]}, "status": {"phase": phase}});
        assert_eq!(summary(pod("Running"))[1], "Terminating");
        assert_eq!(summary(pod("Succeeded"))[1], "Succeeded");
    }

    #[test]
    fn completed_containers_beside_running_ones_are_not_ready() {
        let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let mut pod = json!({"spec": {"containers": [{}, {}]}, "status": {"phase": "Running", "containerStatuses": [done, running(true)]}});
        assert_eq!(summary(pod.clone())[1], "NotReady");
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(summary(pod)[1], "Running");
    }
}
