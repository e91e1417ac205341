//! Pod attachment: a network for the pods of one node.
//!
//! The kubelet makes a network namespace for the sandbox and hands it to
//! [`PodNetwork::attach`]; everything inside and outside of it that concerns
//! links, addresses, routes and ports is done here.
//!
//! ```text
//!   kubelet                         PodNetwork
//!   make namespace  ─── attach ───▶ address, veth, routes, host ports
//!   start containers
//!   ...
//!   stop containers
//!   unmount namespace ─ detach ───▶ give back address and host ports
//!   (the kernel reaps the veth)
//!
//!   after a restart:  reconcile(sandboxes that still exist)
//! ```

pub mod ipam;
mod routed;
mod rules;
mod state;
mod wiring;

pub use routed::RoutedNetwork;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Which pod an attachment belongs to. The `uid` decides; namespace and name
/// are for people and for DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// Transport protocol of a port, spelled as in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// One `hostPort` of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
    /// Only connections to this address of the node; `None` means all.
    pub host_ip: Option<IpAddr>,
}

/// What a pod asks of its network beyond an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    pub host_ports: Vec<HostPort>,
}

/// The addresses of a pod, primary first (`status.podIP`, `status.podIPs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    pub ips: Vec<IpAddr>,
}

impl PodAddresses {
    /// The address that becomes `status.podIP`.
    pub fn primary(&self) -> Option<IpAddr> {
        self.ips.first().copied()
    }
}

/// A pod that has a network on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub pod: PodIdentity,
    pub netns: PathBuf,
    pub addresses: PodAddresses,
    pub options: AttachOptions,
}

/// Gives pods of one node a network. All methods are idempotent and may be
/// called for different pods at the same time.
#[async_trait]
pub trait PodNetwork: Send + Sync {
    /// Connects the network namespace mounted at `netns`. When it returns, the
    /// pod can reach and be reached at the addresses. For a pod that is
    /// attached already it repairs what is missing and answers the same
    /// addresses.
    ///
    /// # Errors
    /// The address range is exhausted, a host port is taken by another pod, or
    /// the kernel refused a step; nothing is left behind then.
    async fn attach(
        &self,
        netns: &Path,
        pod: &PodIdentity,
        options: &AttachOptions,
    ) -> Result<PodAddresses, Error>;

    /// Sends new connections of this node to other endpoints of the pod's Services,
    /// if there are any, until it is detached. Call it before the pod is told to
    /// stop, so that no connection meets a server that is going. Returns when that
    /// is in force, or after a second if the proxy is not to be heard.
    async fn withdraw(&self, pod_uid: &str);

    /// Gives back what the pod with this `uid` holds. Call it after the last
    /// reference to the namespace is gone (unmounted); a namespace that is still
    /// there loses its link. No error when the pod has nothing.
    async fn detach(&self, pod_uid: &str) -> Result<(), Error>;

    /// The attachment of one pod, from memory.
    fn get(&self, pod_uid: &str) -> Option<Attachment>;

    /// Every attachment, from memory.
    fn list(&self) -> Vec<Attachment>;

    /// Call once after a start, with the uids of the pods whose sandbox still
    /// exists: detaches all others, and repairs the links, routes and rules
    /// of those that stay without interrupting their traffic.
    async fn reconcile(&self, live_uids: &[String]) -> Result<(), Error>;
}

/// Why a pod could not be given, or relieved of, its network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no free address left in pod range {range}")]
    RangeExhausted { range: ipnet::IpNet },
    #[error("host port {port}/{protocol:?} is already used by pod {holder}")]
    HostPortTaken { port: u16, protocol: Protocol, holder: String },
    #[error("open network namespace {}: {source}", path.display())]
    Namespace { path: PathBuf, source: nlink::Error },
    #[error("{step} for pod {pod}: {source}")]
    Step { step: &'static str, pod: String, source: nlink::Error },
    #[error("set up the pod network of the node: {step}: {source}")]
    Node { step: &'static str, source: nlink::Error },
    #[error("{step} {}: {source}", path.display())]
    State { step: &'static str, path: PathBuf, source: std::io::Error },
    #[error("pod network state {}: {source}", path.display())]
    Corrupt { path: PathBuf, source: serde_json::Error },
}
