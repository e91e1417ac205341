//! What a Service should look like on this node. Pure: the Service and its
//! slices in, frontends out.
//!
//! Rules, in upstream's words: a ready endpoint is used; when there is none,
//! those that are terminating but still serving. `Local` policies use only
//! endpoints of this node; traffic from the cluster itself to an external
//! address is exempt from `externalTrafficPolicy: Local`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::kernel::nft::Ip;
use crate::kernel::ranges::Ranges;
use crate::objects::{
    EndpointConditions, EndpointSlice, Hints, Named, SERVICE_PROXY_NAME, Service, ServicePort,
};
use crate::pod::Protocol;

/// `timeoutSeconds` when a Service does not say.
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Where clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// One address: a ClusterIP, an external IP, a load balancer's.
    Address(IpAddr),
    /// Every address of the node, of one family.
    Node(Ip),
}

impl Place {
    pub fn ip(self) -> Ip {
        match self {
            Place::Address(address) => Ip::of(address),
            Place::Node(ip) => ip,
        }
    }
}

/// A place, a protocol and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Front {
    pub place: Place,
    pub protocol: Protocol,
    pub port: u16,
}

/// Whose source address is replaced by the node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masquerade {
    /// That of everyone but pods.
    Outsiders,
    /// Everyone's: the answer must come back through this node.
    Everyone,
    /// Nobody's: the endpoint sees the client.
    Nobody,
}

/// Where connections to a front go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Sorted, without duplicates.
    pub endpoints: Arc<[SocketAddr]>,
    pub masquerade: Masquerade,
    /// Seconds a client stays with its endpoint.
    pub affinity: Option<u32>,
    /// Drop rather than refuse when there are no endpoints: there are some, but
    /// not on this node, and the balancer should try another.
    pub drop_when_empty: bool,
}

/// A front and its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontend {
    pub front: Front,
    /// The ClusterIP and port of the same Service port, by which the node itself
    /// can reach it.
    pub inside: SocketAddr,
    pub main: Destination,
    /// For clients in the cluster, when `main` has only local endpoints.
    pub shortcut: Option<Destination>,
    /// The only clients that are let in (`loadBalancerSourceRanges`); `None` for everyone.
    pub clients: Option<Arc<Ranges>>,
}

/// What the planner must know of the node.
#[derive(Debug, Clone, Default)]
pub struct Node {
    pub name: String,
    /// Fronts at these addresses are served by the node itself.
    pub own_addresses: Vec<IpAddr>,
    /// Its `topology.kubernetes.io/zone`.
    pub zone: Option<Box<str>>,
}

/// The frontends of one Service, ordered. `withdrawn` are addresses whose pods
/// are about to stop: they count as terminating.
pub fn plan(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &Node,
    withdrawn: &HashSet<IpAddr>,
) -> Vec<Frontend> {
    let cluster_ips = service.cluster_ips();
    if service.is_external_name() || service.metadata.labels.contains_key(SERVICE_PROXY_NAME) {
        return Vec::new();
    }
    let mut frontends = BTreeMap::new();
    for cluster_ip in cluster_ips.iter().filter(|ip| !node.own_addresses.contains(ip)) {
        let ip = Ip::of(*cluster_ip);
        for port in &service.spec.ports {
            let reachable = Reachable::find(slices, ip, port, node, withdrawn);
            for frontend in port_frontends(service, *cluster_ip, port, &reachable) {
                frontends.entry(frontend.front).or_insert(frontend);
            }
        }
    }
    frontends.into_values().collect()
}

/// What a balancer in front of the node asks: whether a Service with
/// `externalTrafficPolicy: Local` has ready endpoints here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `healthCheckNodePort`.
    pub port: u16,
    pub local_endpoints: usize,
}

/// The health check of a Service, if it has one.
pub fn health_check(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &Node,
    withdrawn: &HashSet<IpAddr>,
) -> Option<HealthCheck> {
    let port = service.spec.health_check_node_port;
    if port == 0 || !is_local(&service.spec.external_traffic_policy) || &*service.spec.kind != "LoadBalancer"
    {
        return None;
    }
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.node_name.as_deref() == Some(&*node.name));
    let ready =
        here.filter(|endpoint| endpoint.conditions.is_ready()).filter_map(|endpoint| endpoint.address());
    let addresses: BTreeSet<IpAddr> = ready.filter(|address| !withdrawn.contains(address)).collect();
    Some(HealthCheck { port, local_endpoints: addresses.len() })
}

fn port_frontends(
    service: &Service,
    cluster_ip: IpAddr,
    port: &ServicePort,
    reachable: &Reachable,
) -> Vec<Frontend> {
    let ip = Ip::of(cluster_ip);
    let front = |place, number| Front { place, protocol: port.protocol, port: number };
    let affinity = affinity(service);
    let external_local = is_local(&service.spec.external_traffic_policy);
    let internal = Destination {
        affinity,
        ..reachable.destination(is_local(&service.spec.internal_traffic_policy), Masquerade::Outsiders)
    };
    let inside = SocketAddr::new(cluster_ip, port.port);
    let at_cluster_ip = front(Place::Address(cluster_ip), port.port);
    let mut frontends =
        vec![Frontend { front: at_cluster_ip, inside, main: internal, shortcut: None, clients: None }];
    let outside = if external_local { Masquerade::Nobody } else { Masquerade::Everyone };
    let main = Destination { affinity, ..reachable.destination(external_local, outside) };
    let shortcut = external_local
        .then(|| Destination { affinity, ..reachable.destination(false, Masquerade::Outsiders) });
    let clients = clients(service, ip);
    // The balancer's first: an address that is also an external IP lets no more clients in.
    let balancer =
        balancer_addresses(service, ip).map(|address| (Place::Address(address), port.port, clients.clone()));
    let external = external_addresses(service, ip).map(|address| (Place::Address(address), port.port, None));
    let node_port = (port.node_port != 0).then_some((Place::Node(ip), port.node_port, None));
    let outer = balancer.chain(external).chain(node_port);
    frontends.extend(outer.map(|(place, number, clients)| Frontend {
        front: front(place, number),
        inside,
        main: main.clone(),
        shortcut: shortcut.clone(),
        clients,
    }));
    frontends
}

/// The load balancer's addresses that the node must answer.
fn balancer_addresses(service: &Service, ip: Ip) -> impl Iterator<Item = IpAddr> {
    let ingress = service.status.load_balancer.ingress.iter().filter(|ingress| &*ingress.ip_mode != "Proxy");
    of_family(ingress.map(|ingress| &ingress.ip), ip)
}

fn external_addresses(service: &Service, ip: Ip) -> impl Iterator<Item = IpAddr> {
    of_family(service.spec.external_ips.iter(), ip)
}

fn of_family<'a>(texts: impl Iterator<Item = &'a Box<str>>, ip: Ip) -> impl Iterator<Item = IpAddr> {
    texts.filter_map(|text| text.parse().ok()).filter(move |address| Ip::of(*address) == ip)
}

/// Who may connect to the load balancer's addresses. As in upstream, ranges of the other family say nothing about
/// this one.
fn clients(service: &Service, ip: Ip) -> Option<Arc<Ranges>> {
    let mut ranges = Ranges::default();
    let blocks = service.spec.load_balancer_source_ranges.iter();
    let blocks = blocks.filter_map(|text| text.trim().parse::<IpNet>().ok());
    for block in blocks.filter(|block| Ip::of(block.addr()) == ip) {
        ranges.add_block(block, []);
    }
    (!ranges.is_empty()).then(|| Arc::new(ranges))
}

fn is_local(policy: &str) -> bool {
    policy == "Local"
}

fn affinity(service: &Service) -> Option<u32> {
    (&*service.spec.session_affinity == "ClientIP").then(|| {
        service.spec.session_affinity_config.client_ip.timeout_seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS)
    })
}

/// The endpoints of one service port that may get connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reachable {
    pub cluster: Vec<SocketAddr>,
    pub local: Vec<SocketAddr>,
}

impl Reachable {
    pub fn find(
        slices: &[Arc<EndpointSlice>],
        ip: Ip,
        port: &ServicePort,
        node: &Node,
        withdrawn: &HashSet<IpAddr>,
    ) -> Self {
        let mut ready = Pool::default();
        let mut serving = Pool::default();
        let mut hints = Vec::new();
        for slice in slices.iter().filter(|slice| is_family(slice, ip)) {
            let wanted =
                slice.ports.iter().find(|p| p.name() == &*port.name && p.protocol() == port.protocol);
            let Some(number) = wanted.and_then(|found| found.port) else { continue };
            for endpoint in &slice.endpoints {
                let Some(address) = endpoint.address() else { continue };
                let at = SocketAddr::new(address, number);
                let is_here = endpoint.node_name.as_deref() == Some(&*node.name);
                match stage(endpoint.conditions, withdrawn.contains(&address)) {
                    Stage::Ready => {
                        ready.add(at, is_here);
                        hints.push((at, &endpoint.hints));
                    }
                    Stage::Leaving => serving.add(at, is_here),
                    Stage::Unusable => {}
                }
            }
        }
        let preferred = preferred(&hints, node);
        Self {
            cluster: first_non_empty(preferred.unwrap_or(ready.all), serving.all),
            local: first_non_empty(ready.local, serving.local),
        }
    }

    fn destination(&self, only_local: bool, masquerade: Masquerade) -> Destination {
        let endpoints = if only_local { &self.local } else { &self.cluster };
        Destination {
            endpoints: endpoints.as_slice().into(),
            masquerade,
            affinity: None,
            drop_when_empty: only_local && !self.cluster.is_empty(),
        }
    }
}

/// The endpoints that are meant for this node, or else for its zone. Hints count only where every endpoint has
/// them: a slice that is half written must not take traffic from the rest.
fn preferred(ready: &[(SocketAddr, &Hints)], node: &Node) -> Option<BTreeSet<SocketAddr>> {
    let meant = |of: fn(&Hints) -> &[Named], name: &str| {
        let all_have = ready.iter().all(|(_, hints)| !of(hints).is_empty());
        let is_meant = |hints: &Hints| of(hints).iter().any(|hint| &*hint.name == name);
        let meant: BTreeSet<_> =
            ready.iter().filter(|(_, hints)| is_meant(hints)).map(|(at, _)| *at).collect();
        Some(meant).filter(|meant| all_have && !meant.is_empty())
    };
    let zone = || meant(|hints| &hints.for_zones, node.zone.as_deref()?);
    meant(|hints| &hints.for_nodes, &node.name).or_else(zone)
}

#[derive(Default)]
struct Pool {
    all: BTreeSet<SocketAddr>,
    local: BTreeSet<SocketAddr>,
}

impl Pool {
    fn add(&mut self, endpoint: SocketAddr, is_here: bool) {
        self.all.insert(endpoint);
        if is_here {
            self.local.insert(endpoint);
        }
    }
}

enum Stage {
    Ready,
    /// Terminating, but still serving.
    Leaving,
    Unusable,
}

fn stage(conditions: EndpointConditions, is_withdrawn: bool) -> Stage {
    match (conditions.is_ready(), conditions.is_serving()) {
        (true, _) if is_withdrawn => Stage::Leaving,
        (true, _) => Stage::Ready,
        (false, true) if conditions.is_terminating() => Stage::Leaving,
        _ => Stage::Unusable,
    }
}

fn first_non_empty(first: BTreeSet<SocketAddr>, second: BTreeSet<SocketAddr>) -> Vec<SocketAddr> {
    if first.is_empty() { second } else { first }.into_iter().collect()
}

fn is_family(slice: &EndpointSlice, ip: Ip) -> bool {
    match ip {
        Ip::V4 => &*slice.address_type == "IPv4",
        Ip::V6 => &*slice.address_type == "IPv6",
    }
}

#[cfg(test)]
mod tests;
