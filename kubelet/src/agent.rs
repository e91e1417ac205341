//! The parts of a node agent, as pod workers and the server use them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::informer::SharedInformer;
use knarr_network::pod::PodNetwork;
use knarr_runtime::cri::{self, ContainerRuntime, DnsConfig};

use crate::config::{Config, Machine};
use crate::events::Recorder;
use crate::eviction::{Pressure, Shortage};
use crate::images::ImageManager;
use crate::lifecycle::admission;
use crate::lifecycle::hooks::Hooks;
use crate::objects::Objects;
use crate::pod::spec;
use crate::pod::users::Users;
use crate::probes::ProbeManager;
use crate::resize::queue::Queue;
use crate::resize::{Allocations, ResizeConditions};
use crate::resources::amount::List;
use crate::resources::cgroups::{self, Burstable};
use crate::stats::rate::Rates;
use crate::status::manager::StatusManager;
use crate::status::qos::QosClass;
use crate::volumes::VolumeManager;

pub struct Agent {
    pub config: Arc<Config>,
    pub machine: Machine,
    /// When this agent began.
    pub started: Timestamp,
    pub allocatable: List,
    pub client: kube::Client,
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Scheme of container ids.
    pub runtime_name: String,
    /// Absent where the runtime gives pods their addresses.
    pub network: Option<Arc<dyn PodNetwork>>,
    pub recorder: Recorder,
    pub status: StatusManager,
    pub probes: Arc<ProbeManager>,
    pub images: Arc<ImageManager>,
    pub volumes: Arc<VolumeManager>,
    pub objects: Arc<Objects>,
    pub hooks: Hooks,
    pub burstable: Burstable,
    pub allocations: Allocations,
    pub resizes: ResizeConditions,
    /// Ids of pods that do not use the host's.
    pub users: Users,
    pub resize_queue: Queue,
    pub cpu_rates: Rates,
    /// What the node is short of.
    pub pressure: Pressure,
    /// Absent on simulated nodes, whose containers read no environment.
    pub services: Option<SharedInformer<Service>>,
    /// The node's own resolv.conf.
    pub dns: DnsConfig,
    /// This node's object alone.
    pub nodes: SharedInformer<Node>,
    /// Ours until the API's is known.
    pub initial_node: Arc<Node>,
    pub clock: SharedClock,
    pub random: SharedRandom,
}

impl Agent {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn host_ips(&self) -> &[IpAddr] {
        &self.config.node_ips
    }

    pub fn pod_log_dir(&self, pod: &Pod) -> PathBuf {
        self.config.pod_log_dir(spec::namespace(pod), spec::name(pod), spec::uid(pod))
    }

    /// The node as pods are held against it.
    pub fn as_seen_by_admission<'a>(
        &'a self,
        node: &'a Node,
        shortages: &'a [Shortage],
    ) -> admission::Node<'a> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        admission::Node {
            name: &self.config.node_name,
            allocatable: &self.allocatable,
            labels: node.metadata.labels.as_ref().unwrap_or(&NONE),
            taints: node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default(),
            allowed_unsafe_sysctls: &self.config.allowed_unsafe_sysctls,
            shortages,
        }
    }

    /// The Node object as the API has it, or as we are about to register it.
    pub fn node(&self) -> Arc<Node> {
        self.nodes.get("", &self.config.node_name).unwrap_or_else(|| Arc::clone(&self.initial_node))
    }

    /// A sandbox's addresses: the runtime's, or those of our own network.
    pub fn addresses(&self, sandbox: &cri::SandboxStatus) -> Vec<IpAddr> {
        if !sandbox.ips.is_empty() {
            return sandbox.ips.clone();
        }
        let network = self.network.as_ref();
        network
            .and_then(|network| network.get(&sandbox.metadata.uid))
            .map(|a| a.addresses.ips)
            .unwrap_or_default()
    }
}

impl Agent {
    /// Weighs the branch of burstable pods by what they ask for together.
    pub async fn weigh_burstable(&self, milli_cpu: Option<i64>) {
        let Some(milli_cpu) = milli_cpu else { return };
        let branch = cgroups::branch(&self.config.cgroup_root, QosClass::Burstable);
        let resources = cgroups::class_resources(QosClass::Burstable, milli_cpu);
        if let Err(error) = self.runtime.apply_pod_cgroup(&branch, &resources).await {
            tracing::warn!(cgroup = %branch, %error, "cannot weigh the burstable pods");
        }
    }

    /// The pod's status was told: probes that wait for one of its containers look again.
    pub fn probes_follow(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        let waiting = self.status.with(uid, |status| {
            let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
            let running = all.filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()) && !c.ready);
            running.map(|c| c.name.clone()).collect::<Vec<_>>()
        });
        for container in waiting.into_iter().flatten() {
            self.probes.nudge(uid, &container);
        }
    }
}
