//! The node's own address towards pods and Services.

use std::net::IpAddr;

use nlink::Connection;
use nlink::netlink::Route;
use nlink::netlink::addr::{Ipv4Address, Ipv6Address};
use nlink::netlink::types::addr::Scope;

use super::nft::Ip;
use crate::config::Config;
use crate::pod::ipam::Pool;

/// The address of a family that packets of the node itself carry: the node's
/// own, or on a machine without one the second of its pod range.
pub fn address(config: &Config, ip: Ip) -> Option<IpAddr> {
    let own = config.node_ips.iter().find(|address| Ip::of(**address) == ip).copied();
    own.or_else(|| {
        config.pod_cidrs.iter().find(|r| Ip::of(r.addr()) == ip).map(|r| Pool::new(*r).node_address())
    })
}

/// Makes sure that the addresses of [`address`] exist, and answers them.
pub async fn ensure(route: &Connection<Route>, config: &Config) -> Result<Vec<IpAddr>, nlink::Error> {
    route.set_link_up("lo").await?;
    let sources: Vec<IpAddr> = Ip::BOTH.into_iter().filter_map(|ip| address(config, ip)).collect();
    for source in sources.iter().filter(|source| !config.node_ips.contains(source)) {
        add_to_loopback(route, *source, Scope::Universe).await?;
    }
    Ok(sources)
}

/// Gives the loopback link an address. With scope host it is never chosen as a
/// source by itself.
pub async fn add_to_loopback(
    route: &Connection<Route>,
    address: IpAddr,
    scope: Scope,
) -> Result<(), nlink::Error> {
    let lo = loopback(route).await?;
    match address {
        IpAddr::V4(v4) => route.replace_address(Ipv4Address::with_index(lo, v4, 32).scope(scope)).await,
        IpAddr::V6(v6) => route.replace_address(Ipv6Address::with_index(lo, v6, 128).nodad()).await,
    }
}

/// Takes such an address away; no error when it is not there.
pub async fn remove_from_loopback(route: &Connection<Route>, address: IpAddr) -> Result<(), nlink::Error> {
    let removed = route.del_address("lo", address, if address.is_ipv4() { 32 } else { 128 }).await;
    match removed {
        Err(error) if error.is_not_found() || error.errno() == Some(nix::libc::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// The index of the loopback link.
pub async fn loopback(route: &Connection<Route>) -> Result<u32, nlink::Error> {
    match route.get_link_by_name("lo").await? {
        Some(link) => Ok(link.ifindex()),
        None => Err(nlink::Error::from(std::io::Error::other("the namespace has no loopback link"))),
    }
}

/// Takes back the addresses that [`ensure`] gave, whatever the ranges of the
/// node were then: all that loopback has of the cluster's.
pub async fn release(route: &Connection<Route>, config: &Config) -> Result<(), nlink::Error> {
    let lo = loopback(route).await?;
    for found in route.get_addresses_by_index(lo).await? {
        let Some(address) = found.address().copied() else { continue };
        if config.cluster_cidrs.iter().any(|range| range.contains(&address)) {
            remove_from_loopback(route, address).await?;
        }
    }
    Ok(())
}
