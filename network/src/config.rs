//! What the binary decides once for a node, as plain values.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// The network of one node of one cluster. Several clusters on one machine
/// differ in `cluster`, and in their ranges and `masquerade_mark`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name (`--name`); part of every name put into the kernel.
    pub cluster: String,
    /// What the cluster calls itself on all its nodes: they agree on the number
    /// of the tunnel between them by it.
    pub tunnel: String,
    /// The Node object's name.
    pub node_name: String,
    /// Addresses of the node, primary first. Empty on a machine that has none
    /// but loopback.
    pub node_ips: Vec<IpAddr>,
    /// The ranges of all pods of the cluster (`--cluster-cidr`).
    pub cluster_cidrs: Vec<IpNet>,
    /// The ranges of this node's pods (`spec.podCIDRs`), one per family.
    pub pod_cidrs: Vec<IpNet>,
    /// The ranges of Service addresses (`--service-cluster-ip-range`).
    pub service_cidrs: Vec<IpNet>,
    /// Addresses of the cluster's DNS (`clusterDNS`), served on every node.
    pub dns_ips: Vec<IpAddr>,
    /// The file that names the resolvers for everything outside the cluster
    /// (`--resolv-conf`); read anew for each such question.
    pub resolv_conf: PathBuf,
    /// Usually `cluster.local`.
    pub cluster_domain: String,
    /// The bit of the packet mark that says "masquerade this" (upstream's
    /// `iptablesMasqueradeBit` is bit 14, 0x4000).
    pub masquerade_mark: u32,
    /// The MTU of pod links; `None` takes that of the node's uplink.
    pub mtu: Option<u32>,
    /// The network namespace that is the node; `None` is the process's own.
    pub netns: Option<PathBuf>,
    /// Where attachments are remembered (one small file per pod).
    pub state_dir: PathBuf,
}

impl Config {
    /// The nftables table of the service proxy; the pods' and policy's tables
    /// append `-pods` and `-policy`.
    pub fn table(&self) -> String {
        format!("knarr-{}", self.cluster)
    }
}
