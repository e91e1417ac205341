//! What the binary tells the node agent. Field names are those of upstream's `KubeletConfiguration` where it has
//! them, defaults are upstream's.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use rustls_pki_types::CertificateDer;

use crate::csi::drivers::Root;

/// How the node's HTTPS server proves who it is and whom it believes.
#[derive(Clone)]
pub struct ServerTls {
    /// Picks the serving certificate; a resolver so that rotation needs no restart.
    pub certificate: Arc<dyn rustls::server::ResolvesServerCert>,
    /// Client certificates signed by these are believed (the API server's is); empty: no client certificates.
    pub client_ca: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("client_ca", &self.client_ca.len()).finish_non_exhaustive()
    }
}

/// The node's HTTPS server; absent on simulated nodes.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub address: SocketAddr,
    pub tls: ServerTls,
    /// `authentication.anonymous.enabled`.
    pub anonymous: bool,
    /// `authorization.webhook.cacheAuthorizedTTL`.
    pub cache_authorized_ttl: Duration,
    /// `authorization.webhook.cacheUnauthorizedTTL`.
    pub cache_unauthorized_ttl: Duration,
    /// `authentication.webhook.cacheTTL`.
    pub authentication_cache_ttl: Duration,
    /// `streamingConnectionIdleTimeout`.
    pub streaming_connection_idle_timeout: Duration,
}

impl ServerConfig {
    pub fn new(address: SocketAddr, tls: ServerTls) -> Self {
        Self {
            address,
            tls,
            anonymous: false,
            cache_authorized_ttl: Duration::from_secs(300),
            cache_unauthorized_ttl: Duration::from_secs(30),
            authentication_cache_ttl: Duration::from_secs(120),
            streaming_connection_idle_timeout: Duration::from_secs(4 * 3600),
        }
    }
}

/// What the machine offers. Read from the kernel by [`crate::node::Machine::read`], invented for simulated nodes.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// Go's name of the processor family (`amd64`, `arm64`).
    pub architecture: String,
    /// Page size (`2Mi`) to bytes set aside.
    pub hugepages: BTreeMap<String, i64>,
}

/// Everything a node agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    pub node_name: String,
    /// Addresses to report, the first family is the primary one.
    pub node_ips: Vec<IpAddr>,
    pub provider_id: String,
    /// Labels given when the node registers.
    pub node_labels: BTreeMap<String, String>,
    /// Annotations given when the node registers.
    pub node_annotations: BTreeMap<String, String>,
    pub register_with_taints: Vec<Taint>,
    /// `false`: the Node object is someone else's to create.
    pub register_node: bool,
    /// Version reported in nodeInfo, e.g. `v1.37.0+knarr.0.1.0`.
    pub version: String,

    /// Pods' volumes, plugin data and checkpoints (upstream: /var/lib/kubelet).
    pub root_dir: PathBuf,
    /// Where local persistent volumes of this node are made when they are first used; others must exist.
    pub local_volumes_dir: Option<PathBuf>,
    /// Container logs (upstream: /var/log/pods).
    pub pod_logs_dir: PathBuf,
    /// Manifests of static pods.
    pub static_pod_path: Option<PathBuf>,

    pub server: Option<ServerConfig>,

    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The node's resolv.conf as pods with `dnsPolicy: Default` should see it.
    pub resolv_conf: PathBuf,

    pub max_pods: i64,
    pub pods_per_core: i64,
    pub pod_pids_limit: i64,
    /// Below which the QoS hierarchy is made, e.g. `/kubepods`.
    pub cgroup_root: String,
    pub cpu_cfs_quota: bool,
    pub cpu_cfs_quota_period: Duration,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    /// Hard eviction thresholds: signal to quantity or percentage.
    pub eviction_hard: BTreeMap<String, String>,
    /// Soft thresholds, which must have been met for their grace period.
    pub eviction_soft: BTreeMap<String, String>,
    /// Signal to duration.
    pub eviction_soft_grace_period: BTreeMap<String, Duration>,
    /// How much more than the threshold is to be freed.
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// How long a condition stays after it was last true.
    pub eviction_pressure_transition_period: Duration,
    /// `evictionMaxPodGracePeriod`, for soft thresholds.
    pub eviction_max_pod_grace_period: Duration,
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Read from the machine where absent.
    pub machine: Option<Machine>,

    pub node_status_update_frequency: Duration,
    pub node_status_report_frequency: Duration,
    pub node_lease_duration_seconds: i32,
    pub node_status_max_images: i64,

    pub image_gc_high_threshold_percent: i64,
    pub image_gc_low_threshold_percent: i64,
    pub image_minimum_gc_age: Duration,
    /// Zero: images are never collected for age alone.
    pub image_maximum_gc_age: Duration,
    pub container_log_max_size: u64,
    pub container_log_max_files: usize,
    /// Dead containers kept per pod and name.
    pub max_per_pod_container_count: usize,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<usize>,

    /// `crashLoopBackOff.maxContainerRestartPeriod`.
    pub max_container_restart_period: Duration,
    /// A real machine below: volumes are mounted, files made, machine facts read. `false` on simulated nodes, which
    /// touch no disk.
    pub host: bool,
}

impl Config {
    /// Upstream's defaults for a node of this name with its state below `root_dir`.
    pub fn new(node_name: impl Into<String>, root_dir: impl Into<PathBuf>) -> Self {
        let root_dir = root_dir.into();
        Self {
            node_name: node_name.into(),
            node_ips: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            provider_id: String::new(),
            node_labels: BTreeMap::new(),
            node_annotations: BTreeMap::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            version: concat!("v1.37.0+knarr.", env!("CARGO_PKG_VERSION")).to_owned(),
            pod_logs_dir: root_dir.join("pod-logs"),
            root_dir,
            local_volumes_dir: None,
            static_pod_path: None,
            server: None,
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            max_pods: 110,
            pods_per_core: 0,
            pod_pids_limit: -1,
            cgroup_root: "/kubepods".to_owned(),
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: Duration::from_millis(100),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            eviction_hard: [
                ("memory.available", "100Mi"),
                ("nodefs.available", "10%"),
                ("nodefs.inodesFree", "5%"),
                ("imagefs.available", "15%"),
                ("imagefs.inodesFree", "5%"),
            ]
            .map(|(signal, quantity)| (signal.to_owned(), quantity.to_owned()))
            .into(),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_minimum_reclaim: BTreeMap::new(),
            eviction_pressure_transition_period: Duration::from_secs(300),
            eviction_max_pod_grace_period: Duration::ZERO,
            allowed_unsafe_sysctls: Vec::new(),
            machine: None,
            node_status_update_frequency: Duration::from_secs(10),
            node_status_report_frequency: Duration::from_secs(300),
            node_lease_duration_seconds: 40,
            node_status_max_images: 50,
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            image_minimum_gc_age: Duration::from_secs(120),
            image_maximum_gc_age: Duration::ZERO,
            container_log_max_size: 10 * 1024 * 1024,
            container_log_max_files: 5,
            max_per_pod_container_count: 1,
            serialize_image_pulls: false,
            max_parallel_image_pulls: None,
            max_container_restart_period: Duration::from_secs(300),
            host: true,
        }
    }

    /// The agent's directory, whatever it is called outside.
    pub fn root(&self) -> Root {
        Root::new(&self.root_dir)
    }

    /// A pod's own directory.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Where the volume of one plugin and name lives below the pod's directory.
    pub fn volume_dir(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod_dir(uid).join("volumes").join(plugin.replace('/', "~")).join(name)
    }

    /// `<logs>/<namespace>_<name>_<uid>`.
    pub fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
