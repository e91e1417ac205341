//! The link between a pod and its node: a veth pair, routed.
//!
//! ```text
//!   pod                                    node
//!   eth0  10.244.1.7/32    ──── veth ────  kn4f0c…   (no address)
//!   default via 169.254.1.1 (permanent     10.244.1.7 dev kn4f0c… src <node>
//!     neighbour: the node's end)           (permanent neighbour: eth0)
//! ```
//!
//! No bridge: every packet of a pod is routed, so the plain forward hook sees
//! it, and both ends know each other's hardware address from the start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nlink::Connection;
use nlink::netlink::Route;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::link::{LinkCreateExt, VethLink};
use nlink::netlink::namespace::Netns;
use nlink::netlink::neigh::Neighbor;
use nlink::netlink::route::{Ipv4Route, Ipv6Route};
use nlink::netlink::types::route::RouteScope;

use super::{Attachment, Error};

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const POD_LINK: &str = "eth0";

/// Names of one pod's ends, the same every time for the same pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The node's end, at most 15 bytes as the kernel wants.
    pub host: String,
    host_mac: [u8; 6],
    pod_mac: [u8; 6],
}

impl Ends {
    pub fn of(cluster: &str, uid: &str) -> Self {
        let hash = fnv(cluster.bytes().chain([0]).chain(uid.bytes())).to_be_bytes();
        let mac = |last: u8| [0x02, hash[0], hash[1], hash[2], hash[3], (hash[4] & 0xfe) | last];
        let digits: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { host: format!("kn{digits}"), host_mac: mac(0), pod_mac: mac(1) }
    }
}

/// FNV-1a: names must not change between versions of the standard library.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes links of pods on one node.
pub struct Wiring {
    host: Connection<Route>,
    mtu: u32,
    /// Source addresses of the node towards its pods, at most one per family.
    sources: Vec<IpAddr>,
}

impl Wiring {
    pub fn new(host: Connection<Route>, mtu: u32, sources: Vec<IpAddr>) -> Self {
        Self { host, mtu, sources }
    }

    /// Connects the pod's namespace, or repairs what is missing.
    pub async fn connect(&self, ends: &Ends, attachment: &Attachment) -> Result<(), Error> {
        let pod = Netns::from_path(&attachment.netns)
            .map_err(|source| Error::Namespace { path: attachment.netns.clone(), source })?;
        let step = |step| move |source| Error::Step { step, pod: label(attachment), source };
        let inside: Connection<Route> =
            Connection::new_in(&pod).map_err(step("open netlink in the namespace"))?;
        self.ensure_link(&pod, &inside, ends).await.map_err(step("create link"))?;
        self.configure_inside(&inside, ends, attachment).await.map_err(step("configure eth0"))?;
        self.route_to(ends, attachment).await.map_err(step("route to pod"))
    }

    /// Removes the node's end, and the pod's with it.
    pub async fn disconnect(&self, ends: &Ends, attachment: &Attachment) -> Result<(), Error> {
        let step = |source| Error::Step { step: "delete link", pod: label(attachment), source };
        self.host.del_link_if_exists(ends.host.as_str()).await.map(drop).map_err(step)
    }

    async fn ensure_link(
        &self,
        pod: &Netns,
        inside: &Connection<Route>,
        ends: &Ends,
    ) -> Result<(), nlink::Error> {
        if inside.get_link_by_name(POD_LINK).await?.is_some() {
            return self.host.set_link_up(ends.host.as_str()).await;
        }
        // A pair of the same name belongs to an earlier sandbox of this pod that
        // the kernel has not reaped yet.
        self.host.del_link_if_exists(ends.host.as_str()).await?;
        let veth = VethLink::new(ends.host.as_str(), POD_LINK)
            .mtu(self.mtu)
            .address(ends.host_mac)
            .peer_address(ends.pod_mac)
            .peer_netns_fd(pod_fd(pod)?);
        self.host.add_link(veth.up()).await
    }

    async fn configure_inside(
        &self,
        inside: &Connection<Route>,
        ends: &Ends,
        attachment: &Attachment,
    ) -> Result<(), nlink::Error> {
        let eth0 = index(inside, POD_LINK).await?;
        inside.set_link_up("lo").await?;
        for address in &attachment.addresses.ips {
            match *address {
                IpAddr::V4(v4) => inside.replace_address(Ipv4Address::with_index(eth0, v4, 32)).await?,
                IpAddr::V6(v6) => {
                    inside.replace_address(Ipv6Address::with_index(eth0, v6, 128).nodad()).await?
                }
            }
        }
        inside.set_link_up_by_index(eth0).await?;
        for address in &attachment.addresses.ips {
            let gateway = if address.is_ipv4() { GATEWAY_V4.into() } else { GATEWAY_V6.into() };
            let neighbour = Neighbor::with_index(eth0, gateway).lladdr(ends.host_mac).permanent();
            inside.replace_neighbor(neighbour).await?;
            match *address {
                IpAddr::V4(v4) => {
                    let to_gateway =
                        Ipv4Route::from_addr(GATEWAY_V4, 32).dev_index(eth0).scope(RouteScope::Link);
                    inside.replace_route(to_gateway).await?;
                    let default = Ipv4Route::default_route().gateway(GATEWAY_V4).dev_index(eth0).prefsrc(v4);
                    inside.replace_route(default).await?;
                }
                IpAddr::V6(_) => {
                    inside
                        .replace_route(Ipv6Route::default_route().gateway(GATEWAY_V6).dev_index(eth0))
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn route_to(&self, ends: &Ends, attachment: &Attachment) -> Result<(), nlink::Error> {
        let link = index(&self.host, &ends.host).await?;
        for address in &attachment.addresses.ips {
            let neighbour = Neighbor::with_index(link, *address).lladdr(ends.pod_mac).permanent();
            self.host.replace_neighbor(neighbour).await?;
            let source = self.sources.iter().find(|source| source.is_ipv4() == address.is_ipv4());
            match (*address, source) {
                (IpAddr::V4(v4), source) => {
                    let mut route = Ipv4Route::from_addr(v4, 32).dev_index(link).scope(RouteScope::Link);
                    if let Some(IpAddr::V4(source)) = source {
                        route = route.prefsrc(*source);
                    }
                    self.host.replace_route(route).await?;
                }
                (IpAddr::V6(v6), source) => {
                    let mut route = Ipv6Route::from_addr(v6, 128).dev_index(link);
                    if let Some(IpAddr::V6(source)) = source {
                        route = route.prefsrc(*source);
                    }
                    self.host.replace_route(route).await?;
                }
            }
        }
        Ok(())
    }
}

fn pod_fd(pod: &Netns) -> Result<std::os::fd::OwnedFd, nlink::Error> {
    use std::os::fd::AsFd;
    pod.as_fd().try_clone_to_owned().map_err(nlink::Error::from)
}

async fn index(connection: &Connection<Route>, name: &str) -> Result<u32, nlink::Error> {
    match connection.get_link_by_name(name).await? {
        Some(link) => Ok(link.ifindex()),
        None => Err(nlink::Error::from(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            format!("link {name} is gone"),
        ))),
    }
}

fn label(attachment: &Attachment) -> String {
    format!("{}/{}", attachment.pod.namespace, attachment.pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_the_kernel_and_differ_by_pod_and_cluster() {
        let ends = Ends::of("default", "7d3e5f6a-0000-4000-8000-000000000001");
        assert!(ends.host.len() <= 15);
        assert_eq!(ends, Ends::of("default", "7d3e5f6a-0000-4000-8000-000000000001"));
        assert_ne!(ends.host, Ends::of("other", "7d3e5f6a-0000-4000-8000-000000000001").host);
        assert_ne!(ends.host, Ends::of("default", "7d3e5f6a-0000-4000-8000-000000000002").host);
        assert_ne!(ends.host_mac, ends.pod_mac);
        assert_eq!(ends.host_mac[0] & 0b11, 0b10, "locally administered, unicast");
    }
}
