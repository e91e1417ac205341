//! The VXLAN link of a cluster, made when a node is not on our layer 2.

use std::net::IpAddr;

use nlink::Connection;
use nlink::netlink::Route;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::fdb::FdbEntryBuilder;
use nlink::netlink::link::{LinkCreateExt, VxlanLink};
use nlink::netlink::neigh::Neighbor;

use ipnet::IpNet;

/// The port Linux itself has always used, as flannel does.
const PORT: u16 = 8472;
/// Outer headers: Ethernet, IPv6 (the larger), UDP, VXLAN.
const OVERHEAD: u32 = 14 + 40 + 8 + 8;

/// Names and numbers of one cluster's tunnel, the same on all its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub link: String,
    vni: u32,
}

impl Tunnel {
    pub fn of(cluster: &str) -> Self {
        let hash = cluster
            .bytes()
            .fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { link: format!("knvx{hash:08x}"), vni: hash & 0x00ff_ffff }
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

/// The hardware address of a node's end, from its address: nobody has to be
/// told.
fn hardware_address(node: IpAddr) -> [u8; 6] {
    let last: [u8; 4] = match node {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => u32::to_be_bytes(
            v6.octets()
                .iter()
                .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)),
        ),
    };
    [0x02, 0x6b, last[0], last[1], last[2], last[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_by_cluster() {
        let (a, b) = (Tunnel::of("default"), Tunnel::of("other"));
        assert!(a.link.len() <= 15 && a.vni < 1 << 24);
        assert_ne!(a, b);
        assert_ne!(
            hardware_address(IpAddr::from([192, 0, 2, 1])),
            hardware_address(IpAddr::from([192, 0, 2, 2]))
        );
    }
}
