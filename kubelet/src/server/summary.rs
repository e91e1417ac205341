//! `/stats/summary`: use of the node, its pods and their containers, in upstream's shape.

use axum::Json;
use axum::extract::State as Extract;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use knarr_runtime::cri::{ContainerStats, UnixNanos};
use serde_json::{Value, json};

use super::State;
use crate::images::collect;
use crate::pod::spec;
use crate::resources::cgroups;

fn time(nanos: UnixNanos) -> Value {
    match Timestamp::from_second(nanos.div_euclid(1_000_000_000)) {
        Ok(time) => json!(time.to_string()),
        Err(_) => Value::Null,
    }
}

fn cpu(stats: &ContainerStats) -> Value {
    json!({"time": time(stats.timestamp), "usageCoreNanoSeconds": stats.cpu_usage_nanos})
}

fn memory(stats: &ContainerStats) -> Value {
    json!({
        "time": time(stats.timestamp),
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.memory_page_faults,
        "majorPageFaults": stats.memory_major_page_faults,
    })
}

fn disk(path: &std::path::Path) -> Value {
    match collect::disk(path) {
        Ok(disk) => json!({
            "availableBytes": disk.available,
            "capacityBytes": disk.capacity,
            "usedBytes": disk.capacity.saturating_sub(disk.available),
        }),
        Err(_) => json!({}),
    }
}

async fn pod(state: &State, inbox: &crate::pod::worker::Inbox) -> Option<Value> {
    let (pod, observed) = (inbox.pod(), inbox.observed());
    let runtime = &state.agent.runtime;
    let mut containers = Vec::new();
    for seen in observed.running() {
        // One that ended meanwhile has no numbers.
        let Ok(stats) = runtime.container_stats(&seen.id).await else { continue };
        containers.push(json!({
            "name": seen.name,
            "startTime": time(seen.started_at),
            "cpu": cpu(&stats),
            "memory": memory(&stats),
            "rootfs": {"usedBytes": stats.rootfs_used_bytes, "inodesUsed": stats.rootfs_inodes_used},
        }));
    }
    let started = observed.ready_sandbox()?.created_at;
    let whole = runtime.cgroup_stats(&cgroups::of_pod(&state.agent.config.cgroup_root, &pod)).await.ok()?;
    Some(json!({
        "podRef": {"name": spec::name(&pod), "namespace": spec::namespace(&pod), "uid": spec::uid(&pod)},
        "startTime": time(started),
        "containers": containers,
        "cpu": cpu(&whole),
        "memory": memory(&whole),
        "process_stats": {"process_count": whole.processes},
    }))
}

pub async fn handle(Extract(state): Extract<State>) -> Response {
    let mut pods = Vec::new();
    for inbox in state.workers.all() {
        pods.extend(pod(&state, &inbox).await);
    }
    let config = &state.agent.config;
    let whole = state.agent.runtime.cgroup_stats("/").await.unwrap_or_default();
    Json(json!({
        "node": {
            "nodeName": config.node_name,
            "cpu": cpu(&whole),
            "memory": memory(&whole),
            "fs": disk(&config.root_dir),
        },
        "pods": pods,
    }))
    .into_response()
}
