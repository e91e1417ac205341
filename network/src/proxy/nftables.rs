//! [`Dataplane`] in nftables: one table per address family, flat maps.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use nlink::Connection;
use nlink::netlink::nftables::{ChainName, SetElement, SetElementData, Transaction, Verdict};
use nlink::netlink::{Netfilter, Nftables, Route};

use super::dataplane::{Dataplane, Error, StaleFlow};
use super::elements::{self, Chain, Difference, Elements, Key, Map, REJECT, Value};
use super::layout::Layout;
use super::plan::{Front, Place};
use crate::config::Config;
use crate::kernel::nft::{self, Ip};
use crate::kernel::{Namespace, source};
use crate::pod::Protocol;

/// The service tables of one cluster.
pub struct NftDataplane {
    config: Config,
    nft: Connection<Nftables>,
    conntrack: Connection<Netfilter>,
    route: Connection<Route>,
    families: Vec<Layout>,
    /// Chains that are in the kernel.
    chains: HashSet<(Ip, Chain)>,
}

impl NftDataplane {
    pub fn open(config: &Config) -> Result<Self, Error> {
        let failed = |step| move |source| Error { table: config.table(), step, source };
        let namespace =
            Namespace::open(config.netns.as_deref()).map_err(failed("open the network namespace"))?;
        let has = |ip: &Ip| config.service_cidrs.iter().any(|range| Ip::of(range.addr()) == *ip);
        let families = Ip::BOTH.into_iter().filter(has).map(|ip| Layout::new(config, ip)).collect();
        Ok(Self {
            nft: namespace.nftables().map_err(failed("open nftables"))?,
            conntrack: namespace.conntrack().map_err(failed("open conntrack"))?,
            route: namespace.route().map_err(failed("open netlink"))?,
            config: config.clone(),
            families,
            chains: HashSet::new(),
        })
    }

    fn failed(&self, step: &'static str) -> impl FnOnce(nlink::Error) -> Error {
        let table = self.config.table();
        move |source| Error { table, step, source }
    }

    fn layout(&self, ip: Ip) -> Option<&Layout> {
        self.families.iter().find(|layout| layout.table().ip == ip)
    }

    /// The node itself reaches ClusterIPs only if some route leads there; what is
    /// not translated on the way out is refused by the table.
    async fn route_services(&self) -> Result<(), nlink::Error> {
        use nlink::netlink::route::{Ipv4Route, Ipv6Route};
        use nlink::netlink::types::route::RouteScope;
        source::ensure(&self.route, &self.config).await?;
        let lo = source::loopback(&self.route).await?;
        for range in &self.config.service_cidrs {
            let from = source::address(&self.config, Ip::of(range.addr()));
            match (range.network(), from) {
                (IpAddr::V4(network), Some(IpAddr::V4(from))) => {
                    let route = Ipv4Route::from_addr(network, range.prefix_len());
                    self.route
                        .replace_route(route.dev_index(lo).scope(RouteScope::Link).prefsrc(from))
                        .await?;
                }
                (IpAddr::V6(network), Some(IpAddr::V6(from))) => {
                    let route = Ipv6Route::from_addr(network, range.prefix_len());
                    self.route.replace_route(route.dev_index(lo).prefsrc(from)).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn load_family(
        &self,
        layout: &Layout,
        into: &mut Elements,
    ) -> Result<HashSet<(Ip, Chain)>, nlink::Error> {
        if !layout.is_installed(&self.nft).await? {
            layout.install(&self.nft).await?;
            return Ok(HashSet::new());
        }
        let (table, ip) = (layout.table(), layout.table().ip);
        for map in Map::ALL {
            for element in self.nft.list_set_elements(&table.name, map.name(), ip.family()).await? {
                if let Some(value) = decode(map, ip, &element) {
                    into.insert(Key { ip, map, bytes: element.key().into() }, value);
                }
            }
        }
        let chains = self.nft.list_chains_in(table.name.as_str(), ip.family()).await?;
        Ok(chains.iter().filter_map(|chain| Some((ip, Chain::parse(&chain.name)?))).collect())
    }

    fn batch(
        &self,
        difference: &Difference,
        new_chains: &[(Ip, Chain)],
    ) -> Result<Transaction, nlink::Error> {
        let mut batch = self.nft.transaction();
        for (ip, chain) in new_chains {
            if let Some(layout) = self.layout(*ip) {
                batch = layout.add_chain(batch, chain)?;
            }
        }
        for (elements, change) in [
            (&difference.delete, nft::delete_elements as fn(Transaction, &_, &[SetElement]) -> Transaction),
            (&difference.add, nft::add_elements),
        ] {
            for ((ip, map), elements) in by_map(elements)? {
                if let Some(layout) = self.layout(ip) {
                    batch = change(batch, &layout.map(map), &elements);
                }
            }
        }
        Ok(batch)
    }
}

#[async_trait]
impl Dataplane for NftDataplane {
    async fn load(&mut self) -> Result<Elements, Error> {
        self.route_services().await.map_err(self.failed("route service addresses"))?;
        let (mut elements, mut chains) = (Elements::new(), HashSet::new());
        for layout in &self.families {
            chains.extend(self.load_family(layout, &mut elements).await.map_err(self.failed("load"))?);
        }
        self.chains = chains;
        Ok(elements)
    }

    async fn apply(&mut self, difference: &Difference) -> Result<(), Error> {
        let new_chains: HashSet<_> =
            difference.chains().filter(|chain| !self.chains.contains(chain)).collect();
        let new_chains: Vec<_> = new_chains.into_iter().collect();
        let batch = self.batch(difference, &new_chains).map_err(self.failed("build a batch"))?;
        batch.commit(&self.nft).await.map_err(self.failed("apply a batch"))?;
        self.chains.extend(new_chains);
        Ok(())
    }

    async fn forget_affinity(&mut self, gone: &[(Front, SocketAddr)]) -> Result<(), Error> {
        for layout in &self.families {
            let of_family: Vec<_> =
                gone.iter().filter(|(front, _)| front.place.ip() == layout.table().ip).collect();
            if !of_family.is_empty() {
                forget_clients(&self.nft, layout, &of_family)
                    .await
                    .map_err(self.failed("end session affinity"))?;
            }
        }
        Ok(())
    }

    async fn forget_flows(&mut self, flows: &[StaleFlow]) -> Result<(), Error> {
        use nlink::netlink::netfilter::{ConntrackFilter, IpProtocol};
        for flow in flows.iter().filter(|flow| flow.front.protocol == Protocol::Udp) {
            let family = match flow.front.place.ip() {
                Ip::V4 => nlink::netlink::types::AddressFamily::Inet,
                Ip::V6 => nlink::netlink::types::AddressFamily::Inet6,
            };
            let mut filter =
                ConntrackFilter::new().family(family).proto(IpProtocol::Udp).orig_dst_port(flow.front.port);
            if let Place::Address(address) = flow.front.place {
                filter = filter.orig_dst(address);
            }
            if let Some(endpoint) = flow.endpoint {
                filter = filter.reply_src(endpoint.ip()).reply_src_port(endpoint.port());
            }
            self.conntrack
                .del_conntrack_matching(&filter)
                .await
                .map_err(self.failed("delete conntrack entries"))?;
        }
        Ok(())
    }

    async fn destroy(&mut self) -> Result<(), Error> {
        for layout in &self.families {
            layout.table().destroy(&self.nft).await.map_err(self.failed("remove the table"))?;
        }
        for range in &self.config.service_cidrs {
            let removed = match range.network() {
                IpAddr::V4(network) => self.route.del_route_v4_if_exists(network, range.prefix_len()).await,
                IpAddr::V6(network) => self.route.del_route_v6_if_exists(network, range.prefix_len()).await,
            };
            removed.map_err(self.failed("remove the route of service addresses"))?;
        }
        self.chains.clear();
        Ok(())
    }
}

async fn forget_clients(
    nft: &Connection<Nftables>,
    layout: &Layout,
    gone: &[&(Front, SocketAddr)],
) -> Result<(), nlink::Error> {
    let (table, ip) = (layout.table(), layout.table().ip);
    let stuck = |element: &SetElement| {
        let Some(SetElementData::Value(value)) = element.data() else { return false };
        let endpoint = elements::decode_endpoint(value);
        let client = ip.words() * 4;
        gone.iter().any(|(front, at)| endpoint == Some(*at) && is_to(&element.key()[client..], ip, *front))
    };
    for element in nft.list_set_elements(&table.name, layout.affinity().name(), ip.family()).await? {
        if !stuck(&element) {
            continue;
        }
        let key = SetElement::new(element.key().to_vec());
        match nft.del_set_elements(&layout.affinity(), &[key]).await {
            // It ran out in the meantime.
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    Ok(())
}

/// Whether `destination . protocol . port` is that of the front.
fn is_to(key: &[u8], ip: Ip, front: Front) -> bool {
    let Some((address, rest)) = key.split_at_checked(ip.words() * 4) else { return false };
    let same_place = match front.place {
        Place::Node(_) => true,
        Place::Address(IpAddr::V4(v4)) => address == v4.octets(),
        Place::Address(IpAddr::V6(v6)) => address == v6.octets(),
    };
    same_place
        && rest.first() == Some(&front.protocol.number())
        && rest.get(4..6) == Some(&front.port.to_be_bytes()[..])
}

fn by_map(elements: &[(Key, Value)]) -> Result<HashMap<(Ip, Map), Vec<SetElement>>, nlink::Error> {
    let mut by_map: HashMap<(Ip, Map), Vec<SetElement>> = HashMap::new();
    for (key, value) in elements {
        by_map.entry((key.ip, key.map)).or_default().push(encode(key, *value)?);
    }
    Ok(by_map)
}

fn encode(key: &Key, value: Value) -> Result<SetElement, nlink::Error> {
    let bytes = || key.bytes.to_vec();
    let element = || SetElement::new(bytes());
    Ok(match value {
        Value::Goto(chain) => element().verdict(Verdict::GotoTo(ChainName::new(chain.to_string())?)),
        Value::Reject => element().verdict(Verdict::GotoTo(ChainName::new(REJECT)?)),
        Value::Drop => element().verdict(Verdict::Drop),
        Value::Endpoint(endpoint) => element().value(SetElement::new(elements::encode_endpoint(endpoint))),
        Value::UpTo(last) => match elements::encode_last(&key.bytes, last) {
            last if *last == *key.bytes => element(),
            last => SetElement::range(bytes(), last),
        },
    })
}

/// The value of an element in the kernel; `None` for what we would not write,
/// which then differs from everything wanted and is replaced.
fn decode(map: Map, ip: Ip, element: &SetElement) -> Option<Value> {
    if map == Map::Clients {
        return elements::decode_last(element.key_end().unwrap_or(element.key()), ip).map(Value::UpTo);
    }
    match element.data()? {
        SetElementData::Verdict(Verdict::Drop) => Some(Value::Drop),
        SetElementData::Verdict(Verdict::GotoTo(name)) if name.as_str() == REJECT => Some(Value::Reject),
        SetElementData::Verdict(Verdict::GotoTo(name)) => Chain::parse(name.as_str()).map(Value::Goto),
        SetElementData::Value(bytes) => elements::decode_endpoint(bytes).map(Value::Endpoint),
        _ => None,
    }
}
