//! The link that several nodes on one machine share: a bridge of the machine's, and a network namespace with one
//! end on it for every node but the first.
//!
//! ```text
//!   machine (first node)                      namespace (another node)
//!   br-kn… 10.232.0.1/24 ── pt-kn… ── veth ── eth0 10.232.0.2/24
//!                                             default via 10.232.0.1
//!                                             <machine's own addresses> dev eth0
//! ```
//!
//! The machine's own addresses are on the link too, so that the nodes see each other as neighbours and route to each
//! other's pods without a tunnel. What leaves the machine is masqueraded.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use nlink::Connection;
use nlink::netlink::Route;
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::{BridgeLink, BridgePortConfig, VethLink};
use nlink::netlink::namespace::{self, Netns};
use nlink::netlink::nftables::{NatHook, NatStatement, Priority};
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::types::route::RouteScope;

use crate::kernel::Namespace;
use crate::kernel::namespace::is_mounted;
use crate::kernel::nft::{Ip, TableRef};

/// The nodes' name for their end.
const UPLINK: &str = "eth0";

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("the link between nodes: {step}: {source}")]
pub struct Error {
    step: &'static str,
    source: nlink::Error,
}

fn failed(step: &'static str) -> impl Fn(nlink::Error) -> Error {
    move |source| Error { step, source }
}

/// The shared link of one cluster.
#[derive(Debug, Clone)]
pub struct Lan {
    cluster: String,
    range: Ipv4Net,
    /// Ranges of the cluster's pods: their packets keep their source among nodes.
    pods: Vec<IpNet>,
    /// The machine, where it is not the process's own namespace.
    machine: Option<PathBuf>,
}

/// A node on the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its namespace is mounted.
    pub netns: PathBuf,
    pub address: Ipv4Addr,
}

impl Lan {
    /// `range` is the link's own: its first address is the machine's, the others are for nodes.
    pub fn new(cluster: &str, range: Ipv4Net, pods: Vec<IpNet>) -> Self {
        Self { cluster: cluster.to_owned(), range, pods, machine: None }
    }

    /// The same on a machine that is a namespace itself.
    pub fn within(self, machine: &Path) -> Self {
        Self { machine: Some(machine.to_owned()), ..self }
    }

    /// The machine's address on the link.
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address of a place on the link, from 1 (the machine's) on.
    pub fn address(&self, place: u8) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.network()) + u32::from(place))
    }

    fn bridge(&self) -> String {
        format!("br-kn{:08x}", fnv(&self.cluster))
    }

    /// The machine's end of a node's link; at most 15 bytes, as the kernel wants.
    fn port(&self, member: &Member) -> String {
        format!("pt-kn{:08x}{:02x}", fnv(&self.cluster), member.address.octets()[3])
    }

    fn table(&self) -> TableRef {
        TableRef::new(format!("knarr-{}-nodes", self.cluster), Ip::V4)
    }

    fn namespace(&self) -> Result<Namespace, Error> {
        Namespace::open(self.machine.as_deref()).map_err(failed("open the machine's namespace"))
    }

    /// Makes the bridge, gives the machine its address on it, and lets nodes out by it. What is there already stays.
    pub async fn ensure(&self) -> Result<(), Error> {
        let machine = self.namespace()?;
        let route = machine.route().map_err(failed("open netlink"))?;
        self.ensure_bridge(&route).await.map_err(failed("make the bridge"))?;
        machine
            .set_sysctl("net/ipv4/ip_forward", "1")
            .map_err(|error| failed("enable forwarding")(error.into()))?;
        self.masquerade(&machine).await.map_err(failed("masquerade what leaves the machine"))
    }

    async fn ensure_bridge(&self, route: &Connection<Route>) -> Result<(), nlink::Error> {
        let name = self.bridge();
        if route.get_link_by_name(name.as_str()).await?.is_none() {
            route.add_link(BridgeLink::new(name.as_str()).stp(false)).await?;
        }
        let index = index(route, &name).await?;
        let address = Ipv4Address::with_index(index, self.gateway(), self.range.prefix_len());
        route.replace_address(address).await?;
        route.set_link_up_by_index(index).await
    }

    async fn masquerade(&self, machine: &Namespace) -> Result<(), nlink::Error> {
        let nft = machine.nftables()?;
        let table = self.table();
        let batch = table.replace(&nft).await?;
        let chain = table.nat_chain("postrouting", NatHook::Postrouting, Priority::SrcNat)?;
        let stays = self.pods.iter().filter(|range| Ip::of(range.addr()) == Ip::V4).copied();
        let stays = stays.chain([IpNet::V4(self.range)]);
        let rule = table.empty_rule("postrouting");
        let rule = rule.match_saddr(IpAddr::V4(self.range.network()), self.range.prefix_len());
        let rule = stays.fold(rule, |rule, range| rule.match_daddr_not(range.network(), range.prefix_len()));
        batch
            .add_chain(chain)
            .add_rule(rule.nat(NatStatement::masquerade().fully_random()))
            .commit(&nft)
            .await
    }

    /// Makes a node's namespace and its link, or repairs what is missing. `neighbours` are the machine's own
    /// addresses.
    pub async fn attach(&self, member: &Member, neighbours: &[IpAddr]) -> Result<(), Error> {
        if !is_mounted(&member.netns) {
            remove_leftover(&member.netns).map_err(failed("remove an old namespace's file"))?;
            namespace::create_path(&member.netns).map_err(failed("make a node's namespace"))?;
        }
        let route = self.namespace()?.route().map_err(failed("open netlink"))?;
        let netns = Netns::from_path(&member.netns).map_err(failed("open a node's namespace"))?;
        let inside: Connection<Route> =
            Connection::new_in(&netns).map_err(failed("open netlink in a node's namespace"))?;
        self.connect(&route, &netns, &inside, member).await.map_err(failed("connect a node"))?;
        self.configure(&inside, member, neighbours).await.map_err(failed("configure a node's eth0"))
    }

    async fn connect(
        &self,
        route: &Connection<Route>,
        netns: &Netns,
        inside: &Connection<Route>,
        member: &Member,
    ) -> Result<(), nlink::Error> {
        let port = self.port(member);
        if inside.get_link_by_name(UPLINK).await?.is_none() {
            // An end of this name belongs to a namespace that the kernel has not reaped yet.
            route.del_link_if_exists(port.as_str()).await?;
            let veth = VethLink::new(port.as_str(), UPLINK).peer_netns_fd(fd(netns)?);
            route.add_link(veth).await?;
        }
        route.set_link_master(port.as_str(), self.bridge().as_str()).await?;
        // Where br_netfilter is on (Docker turns it on), a node port is translated inside the bridge, and a packet
        // whose pod is on the node that it came from has to leave by the port it came in.
        route.set_bridge_port(port.as_str(), BridgePortConfig::new().hairpin(true)).await?;
        route.set_link_up(port.as_str()).await
    }

    async fn configure(
        &self,
        inside: &Connection<Route>,
        member: &Member,
        neighbours: &[IpAddr],
    ) -> Result<(), nlink::Error> {
        let eth0 = index(inside, UPLINK).await?;
        inside.set_link_up("lo").await?;
        let address = Ipv4Address::with_index(eth0, member.address, self.range.prefix_len());
        inside.replace_address(address).await?;
        inside.set_link_up_by_index(eth0).await?;
        for neighbour in neighbours {
            let IpAddr::V4(neighbour) = *neighbour else { continue };
            if !self.range.contains(&neighbour) {
                let route = Ipv4Route::from_addr(neighbour, 32).dev_index(eth0).scope(RouteScope::Link);
                inside.replace_route(route.prefsrc(member.address)).await?;
            }
        }
        inside.replace_route(Ipv4Route::default_route().gateway(self.gateway()).dev_index(eth0)).await
    }

    /// Removes a node's namespace and link; no error where there is none. Its processes must have ended.
    pub async fn detach(&self, member: &Member) -> Result<(), Error> {
        let route = self.namespace()?.route().map_err(failed("open netlink"))?;
        route.del_link_if_exists(self.port(member).as_str()).await.map_err(failed("remove a node's link"))?;
        if is_mounted(&member.netns) {
            return namespace::delete_path(&member.netns).map_err(failed("remove a node's namespace"));
        }
        remove_leftover(&member.netns).map_err(failed("remove an old namespace's file"))
    }

    /// Removes the bridge and the rules; no error where there are none.
    pub async fn destroy(&self) -> Result<(), Error> {
        let machine = self.namespace()?;
        let route = machine.route().map_err(failed("open netlink"))?;
        route.del_link_if_exists(self.bridge().as_str()).await.map_err(failed("remove the bridge"))?;
        let nft = machine.nftables().map_err(failed("open nftables"))?;
        self.table().destroy(&nft).await.map_err(failed("remove the rules"))
    }
}

/// The file on which a namespace was mounted before the machine started anew.
fn remove_leftover(path: &Path) -> Result<(), nlink::Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn fd(netns: &Netns) -> Result<std::os::fd::OwnedFd, nlink::Error> {
    use std::os::fd::AsFd;
    netns.as_fd().try_clone_to_owned().map_err(nlink::Error::from)
}

async fn index(route: &Connection<Route>, name: &str) -> Result<u32, nlink::Error> {
    match route.get_link_by_name(name).await? {
        Some(link) => Ok(link.ifindex()),
        None => Err(nlink::Error::from(std::io::Error::other(format!("link {name} is gone")))),
    }
}

/// FNV-1a: names must not change between versions of the standard library.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_places_have_addresses_of_their_own() {
        let lan = Lan::new("default", "10.232.0.0/24".parse().expect("a range"), Vec::new());
        let member = |place| Member { netns: "/run/x".into(), address: lan.address(place) };
        assert_eq!(lan.gateway().to_string(), "10.232.0.1");
        assert_eq!(lan.address(7).to_string(), "10.232.0.7");
        assert!(lan.bridge().len() <= 15 && lan.port(&member(2)).len() <= 15);
        assert_ne!(lan.port(&member(2)), lan.port(&member(3)));
    }
}
