//! Frontends as elements of the nftables maps, and the difference between two
//! sets of them. Pure.
//!
//! ```text
//! services            address . protocol . port          : goto <chain>
//! shortcuts           address . protocol . port          : goto <chain>
//! node-ports                    protocol . port          : goto <chain>
//! node-port-shortcuts           protocol . port          : goto <chain>
//! endpoints           address . protocol . port . slot   : address . port
//! node-port-endpoints           protocol . port . slot   : address . port
//! no-endpoints        address . protocol . port          : goto reject | drop
//! no-endpoint-node-ports        protocol . port          : goto reject | drop
//! restricted          address . protocol . port          : drop
//! clients             address . protocol . port . range of client addresses
//! ```
//!
//! A chain exists per way of handling and number of endpoints, not per
//! Service: it draws a slot below that number and looks the endpoint up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::plan::{Destination, Front, Frontend, Masquerade, Place};
use crate::kernel::nft::Ip;

/// Slots of shortcuts start here, so that they share the endpoint maps.
pub const SHORTCUT_SLOTS: u32 = 1 << 20;

/// The chain that refuses.
pub const REJECT: &str = "reject";

/// A map of the service table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Map {
    Services,
    Shortcuts,
    NodePorts,
    NodePortShortcuts,
    Endpoints,
    NodePortEndpoints,
    NoEndpoints,
    NoEndpointNodePorts,
    /// Fronts that not everyone may use.
    Restricted,
    /// Who may use them: a set of ranges.
    Clients,
}

impl Map {
    pub const ALL: [Map; 10] = [
        Map::Services,
        Map::Shortcuts,
        Map::NodePorts,
        Map::NodePortShortcuts,
        Map::Endpoints,
        Map::NodePortEndpoints,
        Map::NoEndpoints,
        Map::NoEndpointNodePorts,
        Map::Restricted,
        Map::Clients,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Map::Services => "services",
            Map::Shortcuts => "shortcuts",
            Map::NodePorts => "node-ports",
            Map::NodePortShortcuts => "node-port-shortcuts",
            Map::Endpoints => "endpoints",
            Map::NodePortEndpoints => "node-port-endpoints",
            Map::NoEndpoints => "no-endpoints",
            Map::NoEndpointNodePorts => "no-endpoint-node-ports",
            Map::Restricted => "restricted",
            Map::Clients => "clients",
        }
    }

    /// Whether keys begin with an address.
    pub fn has_address(self) -> bool {
        !matches!(
            self,
            Map::NodePorts | Map::NodePortShortcuts | Map::NodePortEndpoints | Map::NoEndpointNodePorts
        )
    }

    /// Whether it answers an endpoint rather than a verdict.
    pub fn is_endpoints(self) -> bool {
        matches!(self, Map::Endpoints | Map::NodePortEndpoints)
    }
}

/// Which slots a chain draws from, and what it keys them by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Chain {
    /// Keyed by port alone.
    pub node_port: bool,
    pub shortcut: bool,
    pub masquerade: Masquerade,
    /// Number of endpoints, at least 1.
    pub endpoints: u32,
    /// Session affinity, in seconds.
    pub affinity: Option<u32>,
}

/// The chain's name in the kernel: `internal-5`, `node-external-3-sticky-10800`.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.masquerade {
            Masquerade::Outsiders => "internal",
            Masquerade::Everyone => "external",
            Masquerade::Nobody => "local",
        };
        let node = if self.node_port { "node-" } else { "" };
        let shortcut = if self.shortcut { "shortcut-" } else { "" };
        write!(f, "{node}{shortcut}{kind}-{}", self.endpoints)?;
        match self.affinity {
            Some(seconds) => write!(f, "-sticky-{seconds}"),
            None => Ok(()),
        }
    }
}

impl Chain {
    /// Reads a name back; `None` for one that is not of this kind.
    pub fn parse(name: &str) -> Option<Self> {
        let (node_port, rest) = strip(name, "node-");
        let (shortcut, rest) = strip(rest, "shortcut-");
        let (kind, rest) = rest.split_once('-')?;
        let masquerade = match kind {
            "internal" => Masquerade::Outsiders,
            "external" => Masquerade::Everyone,
            "local" => Masquerade::Nobody,
            _ => return None,
        };
        let (endpoints, affinity) = match rest.split_once("-sticky-") {
            Some((endpoints, seconds)) => (endpoints, Some(seconds.parse().ok()?)),
            None => (rest, None),
        };
        Some(Self { node_port, shortcut, masquerade, endpoints: endpoints.parse().ok()?, affinity })
    }

    /// The first slot this chain draws.
    pub fn first_slot(&self) -> u32 {
        if self.shortcut { SHORTCUT_SLOTS } else { 0 }
    }
}

fn strip<'a>(text: &'a str, prefix: &str) -> (bool, &'a str) {
    match text.strip_prefix(prefix) {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// The key of an element, as the kernel has it: padded fields in network order,
/// the slot in host order; of a range, its first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub ip: Ip,
    pub map: Map,
    pub bytes: Box<[u8]>,
}

/// What an element maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    Goto(Chain),
    Reject,
    Drop,
    Endpoint(SocketAddr),
    /// The last client of a range that begins with the key's.
    UpTo(IpAddr),
}

/// Elements of all maps.
pub type Elements = BTreeMap<Key, Value>;

/// Adds what `frontend` needs.
pub fn expand(frontend: &Frontend, into: &mut Elements) {
    let front = frontend.front;
    let node_port = matches!(front.place, Place::Node(_));
    let (decide, shortcut) = match node_port {
        false => (Map::Services, Map::Shortcuts),
        true => (Map::NodePorts, Map::NodePortShortcuts),
    };
    if frontend.main.endpoints.is_empty() {
        let map = if node_port { Map::NoEndpointNodePorts } else { Map::NoEndpoints };
        let value = if frontend.main.drop_when_empty { Value::Drop } else { Value::Reject };
        into.insert(key(front, map, None), value);
    } else {
        expand_destination(front, decide, false, &frontend.main, into);
    }
    if let Some(destination) = frontend.shortcut.as_ref().filter(|d| !d.endpoints.is_empty()) {
        expand_destination(front, shortcut, true, destination, into);
    }
    if let (Some(clients), Place::Address(_)) = (&frontend.clients, front.place) {
        into.insert(key(front, Map::Restricted, None), Value::Drop);
        for (first, last) in clients.iter(front.place.ip()) {
            let mut range = key(front, Map::Clients, None);
            let mut bytes = range.bytes.into_vec();
            push_address(&mut bytes, first);
            range.bytes = bytes.into();
            into.insert(range, Value::UpTo(last));
        }
    }
}

fn expand_destination(front: Front, decide: Map, shortcut: bool, to: &Destination, into: &mut Elements) {
    let node_port = matches!(front.place, Place::Node(_));
    let chain = Chain {
        node_port,
        shortcut,
        masquerade: to.masquerade,
        endpoints: to.endpoints.len() as u32,
        affinity: to.affinity,
    };
    into.insert(key(front, decide, None), Value::Goto(chain));
    let slots = if node_port { Map::NodePortEndpoints } else { Map::Endpoints };
    for (slot, endpoint) in (chain.first_slot()..).zip(to.endpoints.iter()) {
        into.insert(key(front, slots, Some(slot)), Value::Endpoint(*endpoint));
    }
}

fn key(front: Front, map: Map, slot: Option<u32>) -> Key {
    let mut bytes = Vec::with_capacity(28);
    if let Place::Address(address) = front.place {
        push_address(&mut bytes, address);
    }
    bytes.extend([front.protocol.number(), 0, 0, 0]);
    push_port(&mut bytes, front.port);
    if let Some(slot) = slot {
        bytes.extend(slot.to_ne_bytes());
    }
    Key { ip: front.place.ip(), map, bytes: bytes.into() }
}

fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => bytes.extend(v4.octets()),
        IpAddr::V6(v6) => bytes.extend(v6.octets()),
    }
}

fn push_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
}

/// The last key of a range whose first is `first`, when its client is `last`.
pub fn encode_last(first: &[u8], last: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(first.len());
    let client = Ip::of(last).words() * 4;
    bytes.extend(&first[..first.len().saturating_sub(client)]);
    push_address(&mut bytes, last);
    bytes
}

/// The client in the last key of a range; `None` if it has no such field.
pub fn decode_last(key: &[u8], ip: Ip) -> Option<IpAddr> {
    address(key.get(key.len().checked_sub(ip.words() * 4)?..)?)
}

/// `address . port` as the kernel has it.
pub fn encode_endpoint(endpoint: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    push_address(&mut bytes, endpoint.ip());
    push_port(&mut bytes, endpoint.port());
    bytes
}

/// The reverse of [`encode_endpoint`].
pub fn decode_endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let (address, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some(SocketAddr::new(self::address(address)?, u16::from_be_bytes([*port.first()?, *port.get(1)?])))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// What turns one set of elements into another. An element that changes its
/// value is deleted and added.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub delete: Vec<(Key, Value)>,
    pub add: Vec<(Key, Value)>,
}

impl Difference {
    pub fn between(present: &Elements, wanted: &Elements) -> Self {
        let mut difference = Self::default();
        difference.extend(present, wanted);
        difference
    }

    /// Adds the difference between two further sets, of other fronts.
    pub fn extend(&mut self, present: &Elements, wanted: &Elements) {
        let changed = |(key, value): &(&Key, &Value), other: &Elements| other.get(*key) != Some(*value);
        let owned = |(key, value): (&Key, &Value)| (key.clone(), *value);
        self.delete.extend(present.iter().filter(|element| changed(element, wanted)).map(owned));
        self.add.extend(wanted.iter().filter(|element| changed(element, present)).map(owned));
    }

    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty()
    }

    /// The chains that the added elements go to.
    pub fn chains(&self) -> impl Iterator<Item = (Ip, Chain)> + '_ {
        self.add.iter().filter_map(|(key, value)| match value {
            Value::Goto(chain) => Some((key.ip, *chain)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
