//! What a simulated node reports of its pods.

use std::net::Ipv4Addr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::pod::{Container, SimPod};

pub fn running(pod: &SimPod, address: Ipv4Addr, now: Time) -> Value {
    let running =
        |container: &Container| reported(container, pod, true, json!({"running": {"startedAt": now}}));
    let init = pod.spec.init_containers.iter().map(|container| {
        if container.is_sidecar() { running(container) } else { over(container, pod, 0, &now) }
    });
    json!({
        "phase": "Running",
        "startTime": now,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": conditions(pod, true, None, &now),
        "initContainerStatuses": init.collect::<Vec<_>>(),
        "containerStatuses": pod.spec.containers.iter().map(running).collect::<Vec<_>>(),
    })
}

/// That a pod which runs is ready, whatever was said of it.
pub fn ready(pod: &SimPod, now: Time) -> Value {
    json!({"conditions": conditions(pod, true, None, &now)})
}

pub fn ended(pod: &SimPod, code: i32, now: Time) -> Value {
    let statuses = pod.spec.containers.iter().map(|container| over(container, pod, code, &now));
    json!({
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "conditions": conditions(pod, false, Some(if code == 0 { "PodCompleted" } else { "PodFailed" }), &now),
        "containerStatuses": statuses.collect::<Vec<_>>(),
    })
}

fn conditions(pod: &SimPod, ready: bool, reason: Option<&str>, now: &Time) -> Value {
    let condition = |kind: &str, holds: bool, reason: Option<&str>| {
        let mut condition = json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "observedGeneration": pod.generation(),
            "lastProbeTime": null,
            "lastTransitionTime": now,
        });
        if let Some(reason) = reason {
            condition["reason"] = reason.into();
        }
        condition
    };
    let done = reason.filter(|reason| *reason == "PodCompleted");
    json!([
        condition("PodReadyToStartContainers", ready, None),
        condition("Initialized", true, done),
        condition("Ready", ready, reason),
        condition("ContainersReady", ready, reason),
    ])
}

fn over(container: &Container, pod: &SimPod, code: i32, now: &Time) -> Value {
    let state = json!({"terminated": {
        "exitCode": code,
        "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": now,
        "finishedAt": now,
    }});
    reported(container, pod, false, state)
}

fn reported(container: &Container, pod: &SimPod, ready: bool, state: Value) -> Value {
    let is_init = pod.spec.init_containers.iter().any(|init| std::ptr::eq(init, container));
    json!({
        "name": &*container.name,
        "image": &*container.image,
        "imageID": "",
        // An init container that has run is ready.
        "ready": ready || (is_init && !container.is_sidecar()),
        "started": ready,
        "restartCount": 0,
        "state": state,
    })
}
