//! `/stats/summary`: use of the node, its pods and their containers, in upstream's shape.

use axum::Json;
use axum::extract::{RawQuery, State as Extract};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use knarr_runtime::cri::{ContainerStats, DiskUsage, UnixNanos};
use serde_json::{Value, json};

use super::State;
use super::exec::form;
use crate::agent::Agent;
use crate::eviction::observe;
use crate::pod::spec;
use crate::resources::amount;
use crate::stats::disk::{FileSystem, file_system};
use crate::stats::network::{self, Interface};
use crate::stats::{self, ContainerUse, Depth, PodUse, VolumeUse};

fn time(nanos: UnixNanos) -> Value {
    match Timestamp::from_second(nanos.div_euclid(1_000_000_000)) {
        Ok(time) => json!(time.to_string()),
        Err(_) => Value::Null,
    }
}

fn cpu(stats: &ContainerStats, rate: Option<u64>) -> Value {
    let mut cpu = json!({"time": time(stats.timestamp), "usageCoreNanoSeconds": stats.cpu_usage_nanos});
    if let Some(rate) = rate {
        cpu["usageNanoCores"] = json!(rate);
    }
    cpu
}

/// `limit`: what there is at most.
fn memory(stats: &ContainerStats, limit: Option<i64>) -> Value {
    let mut memory = json!({
        "time": time(stats.timestamp),
        "usageBytes": stats.memory_usage,
        "workingSetBytes": stats.memory_working_set,
        "rssBytes": stats.memory_rss,
        "pageFaults": stats.memory_page_faults,
        "majorPageFaults": stats.memory_major_page_faults,
    });
    if let Some(limit) = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0) {
        memory["availableBytes"] = json!(limit.saturating_sub(stats.memory_working_set));
    }
    memory
}

/// A file system, with what is used of it: by this one only, or by all.
fn disk(at: UnixNanos, disk: Option<FileSystem>, used: Option<DiskUsage>) -> Value {
    let mut value = json!({"time": time(at)});
    if let Some(disk) = disk {
        value["availableBytes"] = json!(disk.available);
        value["capacityBytes"] = json!(disk.capacity);
        value["inodesFree"] = json!(disk.inodes_free);
        value["inodes"] = json!(disk.inodes);
    }
    let all = disk.map(|disk| DiskUsage { bytes: disk.used(), inodes: disk.inodes_used() });
    if let Some(used) = used.or(all) {
        value["usedBytes"] = json!(used.bytes);
        value["inodesUsed"] = json!(used.inodes);
    }
    value
}

fn interface(interface: &Interface) -> Value {
    json!({
        "name": interface.name,
        "rxBytes": interface.rx_bytes,
        "rxErrors": interface.rx_errors,
        "txBytes": interface.tx_bytes,
        "txErrors": interface.tx_errors,
    })
}

/// The first interface speaks for all of them.
fn network(at: UnixNanos, interfaces: &[Interface]) -> Option<Value> {
    let mut value = interface(interfaces.iter().find(|i| i.name == "eth0").or(interfaces.first())?);
    value["time"] = time(at);
    value["interfaces"] = interfaces.iter().map(interface).collect();
    Some(value)
}

/// The disks everything is on.
#[derive(Clone, Copy)]
struct Disks {
    node: Option<FileSystem>,
    images: Option<FileSystem>,
}

fn container(pod: &PodUse, used: &ContainerUse, disks: Option<Disks>) -> Value {
    let wanted = spec::find_container(&pod.pod, &used.seen.name).and_then(|(_, c)| c.resources);
    let limit = wanted.and_then(|resources| amount::value_of(resources.limits.as_ref(), "memory"));
    let mut value = json!({
        "name": used.seen.name,
        "startTime": time(used.seen.started_at),
        "cpu": cpu(&used.stats, used.cpu_rate),
        "memory": memory(&used.stats, limit),
    });
    if let Some(disks) = disks {
        value["rootfs"] = disk(used.stats.timestamp, disks.images, Some(used.rootfs));
        value["logs"] = disk(used.stats.timestamp, disks.node, Some(used.logs));
    }
    value
}

fn volume(pod: &PodUse, used: &VolumeUse) -> Value {
    let mut value = disk(pod.whole.timestamp, used.disk, Some(used.used));
    value["name"] = json!(used.name);
    if let Some(claim) = &used.claim {
        value["pvcRef"] = json!({"name": claim, "namespace": spec::namespace(&pod.pod)});
    }
    value
}

fn pod(used: &PodUse, disks: Option<Disks>) -> Value {
    let whole = &used.whole;
    let containers: Vec<Value> = used.containers.iter().map(|one| container(used, one, disks)).collect();
    let mut value = json!({
        "podRef": {
            "name": spec::name(&used.pod),
            "namespace": spec::namespace(&used.pod),
            "uid": spec::uid(&used.pod),
        },
        "startTime": time(used.started),
        "containers": containers,
        "cpu": cpu(whole, used.cpu_rate),
        "memory": memory(whole, None),
        "process_stats": {"process_count": whole.processes},
    });
    let Some(disks) = disks else { return value };
    if let Some(network) = network(whole.timestamp, &used.network) {
        value["network"] = network;
    }
    if !used.volumes.is_empty() {
        value["volume"] = used.volumes.iter().map(|one| volume(used, one)).collect();
    }
    value["ephemeral-storage"] = disk(whole.timestamp, disks.node, Some(used.ephemeral()));
    value
}

async fn node(agent: &Agent, disks: Option<Disks>) -> Value {
    let whole = agent.runtime.cgroup_stats("/").await.unwrap_or_default();
    let started = i64::try_from(agent.started.as_nanosecond()).unwrap_or(0);
    let mut value = json!({
        "nodeName": agent.config.node_name,
        "startTime": time(started),
        "cpu": cpu(&whole, agent.cpu_rates.of("/", &whole, 0)),
        "memory": memory(&whole, Some(agent.machine.memory_bytes)),
    });
    let root = &agent.config.cgroup_root;
    if let Ok(pods) = agent.runtime.cgroup_stats(root).await {
        let limit = agent.allocatable.get("memory").map(amount::value);
        value["systemContainers"] = json!([{
            "name": "pods",
            "startTime": time(started),
            "cpu": cpu(&pods, agent.cpu_rates.of(root, &pods, started)),
            "memory": memory(&pods, limit),
        }]);
    }
    let Some(disks) = disks else { return value };
    value["fs"] = disk(whole.timestamp, disks.node, None);
    let images = agent.runtime.image_filesystem().await.unwrap_or_default();
    let used = DiskUsage { bytes: images.used_bytes, inodes: images.inodes_used };
    let images = disk(whole.timestamp, disks.images, Some(used));
    value["runtime"] = json!({"imageFs": images, "containerFs": images});
    if let Some(network) = network(whole.timestamp, &network::of_node()) {
        value["network"] = network;
    }
    if let Some((processes, most)) = observe::processes() {
        value["rlimit"] = json!({"time": time(whole.timestamp), "maxpid": most, "curproc": processes});
    }
    value
}

pub async fn handle(Extract(state): Extract<State>, RawQuery(query): RawQuery) -> Response {
    let wanted = form(query.as_deref().unwrap_or_default());
    let short = wanted.iter().any(|(name, value)| name == "only_cpu_and_memory" && value == "true");
    let agent = &state.agent;
    let (depth, disks) = if short {
        (Depth::CpuAndMemory, None)
    } else {
        let node = file_system(&agent.config.root_dir);
        let images = agent.runtime.image_directory().and_then(|path| file_system(&path));
        (Depth::Everything, Some(Disks { node, images }))
    };
    let pods = stats::pods(agent, &state.workers, depth).await;
    let pods: Vec<Value> = pods.iter().map(|used| pod(used, disks)).collect();
    Json(json!({"node": node(agent, disks).await, "pods": pods})).into_response()
}
