//! What the node, its pods and their containers use: read when somebody asks, for `/stats/summary`, the metrics and
//! eviction alike.

pub mod disk;
pub mod network;
pub mod rate;

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use knarr_runtime::cri::{ContainerStats, DiskUsage, UnixNanos};

use crate::agent::Agent;
use crate::pod::observed::Seen;
use crate::pod::worker::Inbox;
use crate::pod::workers::Workers;
use crate::pod::{container, spec};
use crate::resources::cgroups;
use network::Interface;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Control groups only.
    CpuAndMemory,
    /// Files and network too.
    Everything,
}

/// One running container.
#[derive(Debug, Clone)]
pub struct ContainerUse {
    pub seen: Seen,
    pub stats: ContainerStats,
    /// Thousandths of a CPU times a million, over the last while.
    pub cpu_rate: Option<u64>,
    /// What it wrote into its own root.
    pub rootfs: DiskUsage,
    pub logs: DiskUsage,
}

/// One volume that takes room on a disk or in memory.
#[derive(Debug, Clone)]
pub struct VolumeUse {
    pub name: String,
    /// The claim behind it.
    pub claim: Option<String>,
    /// Counts as the pod's own storage on the node.
    pub ephemeral: bool,
    pub used: DiskUsage,
    pub disk: Option<disk::FileSystem>,
}

/// One pod with at least one running container.
#[derive(Debug, Clone)]
pub struct PodUse {
    pub pod: Arc<Pod>,
    pub started: UnixNanos,
    pub whole: ContainerStats,
    pub cpu_rate: Option<u64>,
    pub containers: Vec<ContainerUse>,
    pub volumes: Vec<VolumeUse>,
    pub network: Vec<Interface>,
}

impl PodUse {
    /// Roots, logs and volumes that live on the node's disk.
    pub fn ephemeral(&self) -> DiskUsage {
        let mut sum = DiskUsage::default();
        for container in &self.containers {
            sum += container.rootfs;
            sum += container.logs;
        }
        for volume in self.volumes.iter().filter(|volume| volume.ephemeral) {
            sum += volume.used;
        }
        sum
    }
}

/// All pods that run.
pub async fn pods(agent: &Agent, workers: &Workers, depth: Depth) -> Vec<PodUse> {
    let all = workers.all();
    let mut found: Vec<PodUse> =
        join_all(all.iter().map(|inbox| pod(agent, inbox, depth))).await.into_iter().flatten().collect();
    found.sort_by(|a, b| name(&a.pod).cmp(&name(&b.pod)));
    found
}

fn name(pod: &Pod) -> (&str, &str) {
    (spec::namespace(pod), spec::name(pod))
}

/// One pod; `None` when nothing of it runs.
pub async fn pod(agent: &Agent, inbox: &Inbox, depth: Depth) -> Option<PodUse> {
    let (pod, observed) = (inbox.pod(), inbox.observed());
    let started = observed.ready_sandbox()?.created_at;
    let mut containers = Vec::new();
    for seen in observed.running() {
        containers.extend(one(agent, &pod, seen, depth).await);
    }
    if containers.is_empty() {
        return None;
    }
    let cgroup = cgroups::of_pod(&agent.config.cgroup_root, &pod);
    let whole = agent.runtime.cgroup_stats(&cgroup).await.ok()?;
    let cpu_rate = agent.cpu_rates.of(&cgroup, &whole, started);
    let (mut volumes, mut network) = (Vec::new(), Vec::new());
    if depth == Depth::Everything && agent.config.host {
        volumes = disk::volumes(agent, &pod).await;
        if !spec::host_network(&pod) {
            network = network::of_containers(agent, &containers).await;
        }
    }
    Some(PodUse { pod, started, whole, cpu_rate, containers, volumes, network })
}

/// One that ended meanwhile has no numbers.
async fn one(agent: &Agent, pod: &Pod, seen: &Seen, depth: Depth) -> Option<ContainerUse> {
    let stats = agent.runtime.container_stats(&seen.id).await.ok()?;
    let cpu_rate = agent.cpu_rates.of(&seen.id, &stats, seen.started_at);
    let (mut rootfs, mut logs) = (DiskUsage::default(), DiskUsage::default());
    if depth == Depth::Everything && agent.config.host {
        rootfs = agent.runtime.container_disk_usage(&seen.id).await.unwrap_or_default();
        let attempt = u32::try_from(seen.restart_count).unwrap_or(0);
        let log = agent.pod_log_dir(pod).join(container::log_path(&seen.name, attempt));
        logs = disk::directory(log.parent().unwrap_or(&log).to_owned()).await;
    }
    Some(ContainerUse { seen: seen.clone(), stats, cpu_rate, rootfs, logs })
}
