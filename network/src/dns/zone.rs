//! What names exist: Services, their endpoints and namespaces, by name and by
//! address.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use knarr_client::ObjectKey;

use crate::kernel::nft::Ip;
use crate::objects::{EndpointSlice, Service};
use crate::pod::Protocol;

/// A reachable endpoint of a headless Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// The first label: the pod's `hostname`, or made from the address.
    pub label: Box<str>,
    pub address: IpAddr,
    /// Whether the label is the pod's own, so that the address leads back to it.
    pub is_named: bool,
}

/// A port with a name, or the only one without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub port: u16,
}

/// What is behind the name of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    ClusterIps {
        addresses: Vec<IpAddr>,
        ports: Vec<Port>,
    },
    /// Ports with the hosts that have them, and all hosts.
    Headless {
        hosts: Vec<Host>,
        ports: Vec<(Port, Vec<Host>)>,
    },
    ExternalName(Box<str>),
}

/// All names of the cluster's zone.
#[derive(Debug, Default)]
pub struct Zone {
    namespaces: HashSet<Box<str>>,
    services: HashMap<ObjectKey, Target>,
    /// Names that an address leads back to, as labels below the zone.
    reverse: HashMap<IpAddr, BTreeMap<ObjectKey, Box<str>>>,
}

impl Zone {
    pub fn add_namespace(&mut self, name: &str) {
        self.namespaces.insert(name.into());
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&Target> {
        self.services.get(&ObjectKey::new(namespace, name))
    }

    /// The names of an address, relative to the zone.
    pub fn names_of(&self, address: IpAddr) -> impl Iterator<Item = &str> {
        self.reverse.get(&address).into_iter().flat_map(|names| names.values()).map(|name| &**name)
    }

    /// Replaces what is known of one Service; `None` when it is gone.
    pub fn set(&mut self, key: &ObjectKey, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) {
        if let Some(before) = self.services.remove(key) {
            for (address, _) in reverse_names(key, &before) {
                self.unlink(address, key);
            }
        }
        let Some(target) = service.and_then(|service| target(service, slices)) else { return };
        for (address, name) in reverse_names(key, &target) {
            self.reverse.entry(address).or_default().insert(key.clone(), name);
        }
        self.services.insert(key.clone(), target);
    }

    fn unlink(&mut self, address: IpAddr, key: &ObjectKey) {
        if let Some(names) = self.reverse.get_mut(&address) {
            names.remove(key);
            if names.is_empty() {
                self.reverse.remove(&address);
            }
        }
    }
}

fn target(service: &Service, slices: &[Arc<EndpointSlice>]) -> Option<Target> {
    if service.is_external_name() {
        return Some(Target::ExternalName(service.spec.external_name.clone()));
    }
    if service.is_headless() {
        return Some(headless(slices));
    }
    let addresses = service.cluster_ips();
    let port =
        |p: &crate::objects::ServicePort| Port { name: p.name.clone(), protocol: p.protocol, port: p.port };
    // A Service whose address is not allocated yet has no name.
    (!addresses.is_empty())
        .then(|| Target::ClusterIps { addresses, ports: service.spec.ports.iter().map(port).collect() })
}

fn headless(slices: &[Arc<EndpointSlice>]) -> Target {
    let mut hosts = BTreeMap::new();
    let mut ports: BTreeMap<Port, BTreeMap<IpAddr, Host>> = BTreeMap::new();
    for slice in slices {
        // Publishing not-ready addresses is already in the ready condition.
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.conditions.is_ready()) {
            let Some(address) = endpoint.address() else { continue };
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            let label = hostname.map_or_else(|| address_label(address), Into::into);
            let host = Host { label, address, is_named: hostname.is_some() };
            for port in &slice.ports {
                let Some(number) = port.port else { continue };
                let port = Port { name: port.name().into(), protocol: port.protocol(), port: number };
                ports.entry(port).or_default().insert(address, host.clone());
            }
            hosts.insert(address, host);
        }
    }
    let ports = ports.into_iter().map(|(port, hosts)| (port, hosts.into_values().collect())).collect();
    Target::Headless { hosts: hosts.into_values().collect(), ports }
}

/// `10-244-1-7`, or with IPv6 `fd00--7`.
pub fn address_label(address: IpAddr) -> Box<str> {
    let separator = match Ip::of(address) {
        Ip::V4 => '.',
        Ip::V6 => ':',
    };
    address.to_string().replace(separator, "-").into()
}

/// The reverse of [`address_label`].
pub fn parse_address_label(label: &str) -> Option<IpAddr> {
    if label.bytes().filter(|byte| *byte == b'-').count() == 3 && !label.contains("--") {
        return label.replace('-', ".").parse().ok();
    }
    label.replace('-', ":").parse().ok()
}

fn reverse_names(key: &ObjectKey, target: &Target) -> Vec<(IpAddr, Box<str>)> {
    let service = format!("{}.{}.svc", key.name, key.namespace);
    match target {
        Target::ClusterIps { addresses, .. } => {
            addresses.iter().map(|address| (*address, service.as_str().into())).collect()
        }
        Target::Headless { hosts, .. } => {
            hosts.iter().map(|host| (host.address, format!("{}.{service}", host.label).into())).collect()
        }
        Target::ExternalName(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_labels_read_back() {
        for text in ["10.244.1.7", "fd00::7", "fd00:1:2:3:4:5:6:7", "::1"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(parse_address_label(&address_label(address)), Some(address), "{text}");
        }
        assert_eq!(parse_address_label("10-244-1"), None);
        assert_eq!(parse_address_label("web"), None);
    }
}
