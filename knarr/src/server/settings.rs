//! From a cluster and a machine to what each component is told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use ipnet::IpNet;
use knarr_network::Config as NetworkConfig;

use super::machine;
use crate::cli::ApiServer;
use crate::cluster::Cluster;

pub const DOMAIN: &str = "cluster.local";

/// The file that keeps the node's part of the pod range.
pub const POD_CIDRS: &str = "pod-cidrs";
/// The keys that Secrets are encrypted with.
pub const ENCRYPTION: &str = "encryption.yaml";

/// Facts that several components must agree on.
#[derive(Debug)]
pub struct Settings {
    pub cluster: Cluster,
    pub api_server: ApiServer,
    pub node_name: String,
    /// The node's addresses, the primary one first; empty on a machine that only has loopback.
    pub node_ips: Vec<IpAddr>,
    /// knarr's own program, for shims and the hello image.
    pub program: PathBuf,
}

impl Settings {
    pub fn of(cluster: Cluster, api_server: ApiServer) -> anyhow::Result<Self> {
        Ok(Self {
            cluster,
            api_server,
            node_name: machine::node_name()?,
            node_ips: machine::addresses()?,
            program: std::env::current_exe().context("finding knarr's own program")?,
        })
    }

    /// Where others reach this machine.
    pub fn advertise_address(&self) -> IpAddr {
        self.node_ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Where the administrator's kubeconfig points.
    pub fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.cluster.api_port)
    }

    /// The first address of the service range, where `kubernetes.default` answers.
    pub fn kubernetes_service(&self) -> IpAddr {
        let [a, b, c, _] = self.cluster.dns_address().octets();
        IpAddr::from([a, b, c, 1])
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.cluster.data_dir.join(name)
    }

    /// What the node on this machine is told.
    pub fn node(&self) -> anyhow::Result<NodeSettings> {
        let parse = |range: String| range.parse().with_context(|| format!("range {range}"));
        Ok(NodeSettings {
            cluster: self.cluster.name.clone(),
            tunnel: self.cluster.name.clone(),
            node_name: self.node_name.clone(),
            node_ips: self.node_ips.clone(),
            program: self.program.clone(),
            data_dir: self.cluster.data_dir.clone(),
            cluster_cidrs: vec![parse(self.cluster.pod_cidr())?],
            service_cidrs: vec![
                parse(self.cluster.service_cidr())?,
                parse(self.cluster.load_balancer_cidr())?,
            ],
            cluster_dns: vec![IpAddr::V4(self.cluster.dns_address())],
            cluster_domain: DOMAIN.to_owned(),
            // One bit per cluster, from upstream's bit 14 upwards.
            masquerade_mark: 0x4000 << self.cluster.index,
            kubelet_port: self.cluster.kubelet_port(),
        })
    }
}

/// What a node must know, wherever its API server is.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The cluster's name; part of every name that the node puts into the kernel.
    pub cluster: String,
    /// What the cluster calls itself on all its nodes.
    pub tunnel: String,
    pub node_name: String,
    /// The node's addresses, the primary one first; empty on a machine that only has loopback.
    pub node_ips: Vec<IpAddr>,
    /// knarr's own program, for shims and the hello image.
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub cluster_cidrs: Vec<IpNet>,
    /// Ranges that the service proxy answers: ClusterIPs, and addresses of load balancers.
    pub service_cidrs: Vec<IpNet>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    pub masquerade_mark: u32,
    pub kubelet_port: u16,
}

impl NodeSettings {
    pub fn dir(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }

    pub fn kubelet_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.kubelet_port))
    }

    /// The network of the node, whose part of the pod range is `pod_cidrs`.
    pub fn network(&self, pod_cidrs: &[String]) -> anyhow::Result<NetworkConfig> {
        let parse = |range: &String| range.parse().with_context(|| format!("pod range {range}"));
        Ok(NetworkConfig {
            cluster: self.cluster.clone(),
            tunnel: self.tunnel.clone(),
            node_name: self.node_name.clone(),
            node_ips: self.node_ips.clone(),
            cluster_cidrs: self.cluster_cidrs.clone(),
            pod_cidrs: pod_cidrs.iter().map(parse).collect::<anyhow::Result<_>>()?,
            service_cidrs: self.service_cidrs.clone(),
            dns_ips: self.cluster_dns.clone(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            cluster_domain: self.cluster_domain.clone(),
            masquerade_mark: self.masquerade_mark,
            mtu: None,
            netns: None,
            state_dir: self.dir("network"),
        })
    }

    /// Kept for `knarr delete`, which has no API server to ask.
    pub fn remember_pod_cidrs(&self, pod_cidrs: &[String]) -> anyhow::Result<()> {
        let path = self.dir(POD_CIDRS);
        std::fs::write(&path, pod_cidrs.join("\n")).with_context(|| format!("writing {}", path.display()))
    }

    /// The ranges the node had when it last ran; none if it never got that far.
    pub fn remembered_pod_cidrs(&self) -> anyhow::Result<Vec<String>> {
        let path = self.dir(POD_CIDRS);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    pub fn cgroup_prefix(&self) -> String {
        format!("/knarr-{}", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_addresses_follow_the_clusters_index() {
        let cluster = Cluster { name: "b".into(), data_dir: "/d".into(), api_port: 6444, index: 2, nodes: 1 };
        let (node_name, node_ips, program) = ("n".to_owned(), vec![], "/knarr".into());
        let api_server = ApiServer::default();
        let settings = Settings { cluster, api_server, node_name, node_ips, program };
        let node = settings.node().expect("valid ranges");
        let network = node.network(&["10.246.1.0/24".to_owned()]).expect("valid ranges");
        assert_eq!(network.masquerade_mark, 0x10000);
        assert_eq!(network.cluster_cidrs[0].to_string(), "10.246.0.0/16");
        assert_eq!(settings.kubernetes_service().to_string(), "10.98.0.1");
        assert!(node.network(&["nonsense".to_owned()]).is_err());
    }
}
