//! Containers: what they ask for, and which ports of the node they take.

use serde::Deserialize;

use crate::resource::WireResources;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub image: Box<str>,
    pub restart_policy: Option<String>,
    pub resources: ContainerResources,
    pub ports: Vec<ContainerPort>,
}

impl Container {
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerResources {
    pub requests: WireResources,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub host_port: i32,
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    pub protocol: String,
}

/// A port that a pod takes on its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: Box<str>,
    pub port: i32,
    /// `0.0.0.0` stands for every address.
    pub ip: Box<str>,
}

impl HostPort {
    /// Ports of containers and sidecars: ordinary init containers are gone when the pod runs.
    pub fn of(containers: &[Container], init: &[Container]) -> Vec<Self> {
        let holding = containers.iter().chain(init.iter().filter(|container| container.is_sidecar()));
        let taken = holding.flat_map(|container| &container.ports).filter(|port| port.host_port > 0);
        taken
            .map(|port| Self {
                protocol: if port.protocol.is_empty() { "TCP".into() } else { port.protocol.as_str().into() },
                port: port.host_port,
                ip: if port.host_ip.is_empty() { "0.0.0.0".into() } else { port.host_ip.as_str().into() },
            })
            .collect()
    }

    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || &*self.ip == ANY || &*other.ip == ANY)
    }
}
