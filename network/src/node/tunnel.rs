//! The VXLAN link of a cluster. Every node that has others has it: one of them
//! may need it to reach us, even where we need none to answer.

use std::net::IpAddr;

use nlink::Connection;
use nlink::netlink::Route;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::fdb::FdbEntryBuilder;
use nlink::netlink::link::{LinkCreateExt, VxlanLink};
use nlink::netlink::neigh::Neighbor;

use ipnet::IpNet;

use crate::config::Config;

/// The port Linux itself has always used, as flannel does.
const PORT: u16 = 8472;
/// Outer headers: Ethernet, IPv6 (the larger), UDP, VXLAN.
const OVERHEAD: u32 = 14 + 40 + 8 + 8;

/// One cluster's tunnel: its link is named after what this node calls the
/// cluster, its number is the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub link: String,
    vni: u32,
}

impl Tunnel {
    pub fn of(config: &Config) -> Self {
        let link = format!("knvx{:08x}", hash(config.cluster.as_bytes()));
        Self { link, vni: hash(config.tunnel.as_bytes()) & 0x00ff_ffff }
    }

    /// The link's index; makes it if need be.
    pub async fn ensure(
        &self,
        route: &Connection<Route>,
        own: IpAddr,
        ranges: &[IpNet],
        uplink_mtu: u32,
    ) -> Result<u32, nlink::Error> {
        if route.get_link_by_name(self.link.as_str()).await?.is_none() {
            let link = VxlanLink::new(self.link.as_str(), self.vni)
                .port(PORT)
                .learning(false)
                .mtu(uplink_mtu - OVERHEAD)
                .address(hardware_address(own));
            let link = match own {
                IpAddr::V4(v4) => link.local(v4),
                IpAddr::V6(v6) => link.local6(v6),
            };
            route.add_link(link.up()).await?;
        }
        let index = match route.get_link_by_name(self.link.as_str()).await? {
            Some(link) => link.ifindex(),
            None => return Err(nlink::Error::from(std::io::Error::other("the tunnel link is gone again"))),
        };
        for range in ranges {
            match range.network() {
                IpAddr::V4(v4) => route.replace_address(Ipv4Address::with_index(index, v4, 32)).await?,
                IpAddr::V6(v6) => {
                    route.replace_address(Ipv6Address::with_index(index, v6, 128).nodad()).await?
                }
            }
        }
        Ok(index)
    }

    /// Says where a node is, and that its range's first address is its hardware
    /// address.
    pub async fn add_peer(
        &self,
        route: &Connection<Route>,
        index: u32,
        range: IpNet,
        node: IpAddr,
    ) -> Result<(), nlink::Error> {
        let mac = hardware_address(node);
        route.replace_neighbor(Neighbor::with_index(index, range.network()).lladdr(mac).permanent()).await?;
        route.replace_fdb(FdbEntryBuilder::new(mac).ifindex(index).dst(node).self_().permanent()).await
    }

    pub async fn destroy(&self, route: &Connection<Route>) -> Result<(), nlink::Error> {
        route.del_link_if_exists(self.link.as_str()).await.map(drop)
    }
}

/// FNV-1a.
fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The hardware address of a node's end, from its address: nobody has to be
/// told.
fn hardware_address(node: IpAddr) -> [u8; 6] {
    let last: [u8; 4] = match node {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => hash(&v6.octets()).to_be_bytes(),
    };
    [0x02, 0x6b, last[0], last[1], last[2], last[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_by_cluster() {
        let of = |cluster: &str, tunnel: &str| {
            Tunnel::of(&Config { cluster: cluster.into(), tunnel: tunnel.into(), ..Config::default() })
        };
        let (a, b, c) = (of("default", "default"), of("other", "other"), of("here", "default"));
        assert!(a.link.len() <= 15 && a.vni < 1 << 24);
        assert!(a.link != b.link && a.vni != b.vni);
        assert!(a.link != c.link && a.vni == c.vni, "nodes of a cluster may call it what they like");
        assert_ne!(
            hardware_address(IpAddr::from([192, 0, 2, 1])),
            hardware_address(IpAddr::from([192, 0, 2, 2]))
        );
    }
}
