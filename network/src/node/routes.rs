//! Routes in the kernel.

use std::net::IpAddr;

use ipnet::IpNet;
use nlink::Connection;
use nlink::netlink::Route;
use nlink::netlink::route::{Ipv4Route, Ipv6Route};
use nlink::netlink::types::route::RouteProtocol;

use super::plan::Peers;
use super::tunnel::Tunnel;
use crate::config::Config;
use crate::kernel::nft::Ip;
use crate::kernel::{Namespace, source};

/// Marks our routes, so that those of nodes that left are found after a restart.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(75);
const DEFAULT_MTU: u32 = 1500;

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct Error {
    pub step: String,
    pub source: nlink::Error,
}

/// The routing table of one node.
pub struct Table {
    config: Config,
    namespace: Namespace,
    route: Connection<Route>,
    tunnel: Tunnel,
}

impl Table {
    pub fn open(config: &Config) -> Result<Self, Error> {
        let failed = |source| Error { step: "open the node's network".to_owned(), source };
        let namespace = Namespace::open(config.netns.as_deref()).map_err(failed)?;
        let route = namespace.route().map_err(failed)?;
        Ok(Self { tunnel: Tunnel::of(config), config: config.clone(), namespace, route })
    }

    /// Makes the routes equal to `peers`.
    pub async fn apply(&self, peers: &Peers) -> Result<(), Error> {
        let mut tunnel = None;
        for (range, node) in peers {
            let failed = |source| Error { step: format!("route {range} by node {node}"), source };
            let way = self.route.lookup_route(*node).await.map_err(failed)?;
            let tunnel = match tunnel {
                Some(made) => made,
                None => *tunnel.insert(self.ensure_tunnel(*node, way.oif()).await.map_err(failed)?),
            };
            match way.oif() {
                Some(link) if way.gateway().is_none() => self.add_route(*range, *node, link, false).await,
                _ => self.add_far(*range, *node, tunnel).await,
            }
            .map_err(failed)?;
        }
        let failed = |source| Error { step: "remove old routes".to_owned(), source };
        self.remove(|range| !peers.contains_key(&range)).await.map_err(failed)
    }

    pub async fn destroy(&self) -> Result<(), Error> {
        let failed = |source| Error { step: "remove routes to other nodes".to_owned(), source };
        self.remove(|_| true).await.map_err(failed)?;
        self.tunnel.destroy(&self.route).await.map_err(failed)
    }

    async fn add_far(&self, range: IpNet, node: IpAddr, tunnel: u32) -> Result<(), nlink::Error> {
        self.tunnel.add_peer(&self.route, tunnel, range, node).await?;
        self.add_route(range, range.network(), tunnel, true).await
    }

    async fn ensure_tunnel(&self, node: IpAddr, uplink: Option<u32>) -> Result<u32, nlink::Error> {
        let Some(own) = source::address(&self.config, Ip::of(node)) else {
            return Err(nlink::Error::from(std::io::Error::other("this node has no address of that family")));
        };
        let mtu = match uplink {
            Some(index) => self.route.get_link_by_index(index).await?.and_then(|link| link.mtu()),
            None => None,
        };
        let mtu = mtu.unwrap_or(DEFAULT_MTU);
        let index = self.tunnel.ensure(&self.route, own, &self.config.pod_cidrs, mtu).await?;
        // Packets may come by the tunnel whose answers go another way; strict reverse paths would drop them.
        let filter = format!("net/ipv4/conf/{}/rp_filter", self.tunnel.link);
        self.namespace.set_sysctl(&filter, "2").map_err(nlink::Error::from)?;
        Ok(index)
    }

    async fn add_route(&self, range: IpNet, by: IpAddr, link: u32, onlink: bool) -> Result<(), nlink::Error> {
        let from = source::address(&self.config, Ip::of(by));
        match (range.network(), by) {
            (IpAddr::V4(network), IpAddr::V4(by)) => {
                let route = Ipv4Route::from_addr(network, range.prefix_len());
                let mut route = route.gateway(by).dev_index(link).protocol(PROTOCOL);
                if onlink {
                    route = route.onlink();
                }
                if let Some(IpAddr::V4(from)) = from {
                    route = route.prefsrc(from);
                }
                self.route.replace_route(route).await
            }
            (IpAddr::V6(network), IpAddr::V6(by)) => {
                let route = Ipv6Route::from_addr(network, range.prefix_len());
                let mut route = route.gateway(by).dev_index(link).protocol(PROTOCOL);
                if onlink {
                    route = route.onlink();
                }
                if let Some(IpAddr::V6(from)) = from {
                    route = route.prefsrc(from);
                }
                self.route.replace_route(route).await
            }
            _ => Ok(()),
        }
    }

    async fn remove(&self, is_old: impl Fn(IpNet) -> bool) -> Result<(), nlink::Error> {
        for route in self.route.get_routes().await? {
            let Some(range) = route.destination().and_then(|at| IpNet::new(*at, route.dst_len()).ok()) else {
                continue;
            };
            let is_ours = route.protocol() == PROTOCOL
                && self.config.cluster_cidrs.iter().any(|cluster| cluster.contains(&range));
            if !is_ours || !is_old(range) {
                continue;
            }
            match range.network() {
                IpAddr::V4(network) => self.route.del_route_v4_if_exists(network, range.prefix_len()).await?,
                IpAddr::V6(network) => self.route.del_route_v6_if_exists(network, range.prefix_len()).await?,
            };
        }
        Ok(())
    }
}
