//! [`PodNetwork`] with routed links.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use nlink::Connection;
use nlink::netlink::{Nftables, Route};
use parking_lot::Mutex;

use super::ipam::Pool;
use super::rules::Rules;
use super::state::Store;
use super::wiring::{Ends, Wiring};
use super::{AttachOptions, Attachment, Error, HostPort, PodAddresses, PodIdentity, PodNetwork, Protocol};
use crate::config::Config;
use crate::dialer::Dialer;
use crate::kernel::nft::Ip;
use crate::kernel::{Namespace, source};
use crate::proxy::{ProxyHandle, Withdrawal};
use crate::relay::{self, Relays};

/// An MTU that fits when the node has no uplink.
const DEFAULT_MTU: u32 = 1500;
/// A pod is told to stop after this time in any case.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(1);

/// The pod network of one node.
pub struct RoutedNetwork {
    cluster: String,
    store: Store,
    wiring: Wiring,
    rules: Vec<Rules>,
    nft: Connection<Nftables>,
    held: Mutex<Held>,
    /// Host ports on loopback.
    relays: Mutex<Relays>,
    proxy: Option<ProxyHandle>,
    /// Pods that are about to stop.
    withdrawn: Mutex<HashMap<String, Withdrawal>>,
}

/// What is given out.
struct Held {
    pools: Vec<Pool>,
    attachments: HashMap<String, Attachment>,
}

impl RoutedNetwork {
    /// Takes up the attachments of an earlier run and prepares the node:
    /// forwarding, the rules, and an address when it has none.
    ///
    /// # Errors
    /// The kernel refuses, or a state file cannot be read.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let node = |step| move |source| Error::Node { step, source };
        let namespace =
            Namespace::open(config.netns.as_deref()).map_err(node("open the network namespace"))?;
        let store = Store::open(&config.state_dir)?;
        let held = Held::restore(config, store.load()?);
        enable_forwarding(&namespace, config).map_err(|e| node("enable forwarding")(e.into()))?;
        let route = namespace.route().map_err(node("open netlink"))?;
        let sources = source::ensure(&route, config).await.map_err(node("give the node an address"))?;
        let mtu = match config.mtu {
            Some(mtu) => mtu,
            None => uplink_mtu(&route, config).await.map_err(node("read the uplink's mtu"))?,
        };
        let nft = namespace.nftables().map_err(node("open nftables"))?;
        let rules: Vec<Rules> = Ip::BOTH
            .into_iter()
            .filter(|ip| config.cluster_cidrs.iter().any(|range| Ip::of(range.addr()) == *ip))
            .map(|ip| {
                Rules::new(format!("{}-pods", config.table()), ip, &config.pod_cidrs, &config.cluster_cidrs)
            })
            .collect();
        let attachments: Vec<Attachment> = held.attachments.values().cloned().collect();
        for rules in &rules {
            rules.install(&nft, &attachments).await.map_err(node("install the rules of pods"))?;
        }
        let relays = Relays::new(Dialer::within(namespace));
        let network = Self {
            cluster: config.cluster.clone(),
            store,
            wiring: Wiring::new(route, mtu, sources),
            rules,
            nft,
            held: Mutex::new(held),
            relays: Mutex::new(relays),
            proxy: None,
            withdrawn: Mutex::default(),
        };
        network.relay_host_ports();
        Ok(network)
    }

    /// Lets [`PodNetwork::withdraw`] reach the node's service proxy.
    pub fn with_proxy(self, proxy: ProxyHandle) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    fn relay_host_ports(&self) {
        let wanted = self.list().iter().flat_map(relayed).collect();
        self.relays.lock().set(&wanted);
    }

    /// Removes every link, rule, address and file of this cluster's pods from the
    /// node.
    pub async fn destroy(&self) -> Result<(), Error> {
        for attachment in self.list() {
            self.release(&attachment).await?;
        }
        for rules in &self.rules {
            rules
                .destroy(&self.nft)
                .await
                .map_err(|source| Error::Node { step: "remove the rules of pods", source })?;
        }
        Ok(())
    }

    fn ends(&self, uid: &str) -> Ends {
        Ends::of(&self.cluster, uid)
    }

    async fn establish(&self, attachment: &Attachment) -> Result<(), Error> {
        let ends = self.ends(&attachment.pod.uid);
        self.store.save(&ends.host, attachment)?;
        self.wiring.connect(&ends, attachment).await?;
        let batch =
            self.rules.iter().fold(self.nft.transaction(), |batch, rules| rules.add(batch, attachment));
        batch.commit(&self.nft).await.map_err(|source| step("add rules", attachment, source))?;
        self.relay_host_ports();
        Ok(())
    }

    async fn release(&self, attachment: &Attachment) -> Result<(), Error> {
        let ends = self.ends(&attachment.pod.uid);
        let batch =
            self.rules.iter().fold(self.nft.transaction(), |batch, rules| rules.remove(batch, attachment));
        match batch.commit(&self.nft).await {
            // Somebody flushed the table, or the pod never got so far.
            Err(error) if error.is_not_found() => {}
            other => other.map_err(|source| step("remove rules", attachment, source))?,
        }
        // With the namespace unmounted the kernel reaps the pair, much cheaper
        // for many than asking for each.
        if crate::kernel::namespace::is_mounted(&attachment.netns) {
            self.wiring.disconnect(&ends, attachment).await?;
        }
        self.store.forget(&ends.host)?;
        self.withdrawn.lock().remove(&attachment.pod.uid);
        self.held.lock().remove(&attachment.pod.uid);
        self.relay_host_ports();
        Ok(())
    }
}

#[async_trait]
impl PodNetwork for RoutedNetwork {
    async fn attach(
        &self,
        netns: &Path,
        pod: &PodIdentity,
        options: &AttachOptions,
    ) -> Result<PodAddresses, Error> {
        let (attachment, previous) = self.held.lock().reserve(netns, pod, options)?;
        if let Some(previous) = previous.filter(|previous| previous.options != attachment.options) {
            let batch =
                self.rules.iter().fold(self.nft.transaction(), |batch, rules| rules.remove(batch, &previous));
            batch.commit(&self.nft).await.map_err(|source| step("change rules", &previous, source))?;
        }
        if let Err(error) = self.establish(&attachment).await {
            self.wiring.disconnect(&self.ends(&pod.uid), &attachment).await?;
            self.release(&attachment).await?;
            return Err(error);
        }
        Ok(attachment.addresses)
    }

    async fn withdraw(&self, pod_uid: &str) {
        let (Some(proxy), Some(attachment)) = (&self.proxy, self.get(pod_uid)) else { return };
        let withdrawal = proxy.begin_withdrawal(attachment.addresses.ips);
        if tokio::time::timeout(WITHDRAW_TIMEOUT, withdrawal.in_force()).await.is_err() {
            tracing::warn!(pod = %attachment.pod.name, "the service proxy did not take the pod out of use in time");
        }
        self.withdrawn.lock().insert(pod_uid.to_owned(), withdrawal);
    }

    async fn detach(&self, pod_uid: &str) -> Result<(), Error> {
        match self.get(pod_uid) {
            Some(attachment) => self.release(&attachment).await,
            None => Ok(()),
        }
    }

    fn get(&self, pod_uid: &str) -> Option<Attachment> {
        self.held.lock().attachments.get(pod_uid).cloned()
    }

    fn list(&self) -> Vec<Attachment> {
        self.held.lock().attachments.values().cloned().collect()
    }

    async fn reconcile(&self, live_uids: &[String]) -> Result<(), Error> {
        let live: HashSet<&str> = live_uids.iter().map(String::as_str).collect();
        let mut outcome = Ok(());
        for attachment in self.list() {
            let done = if live.contains(attachment.pod.uid.as_str()) {
                self.establish(&attachment).await
            } else {
                self.release(&attachment).await
            };
            // One pod's trouble is not to cost the others their network.
            if let Err(error) = done {
                let pod = format!("{}/{}", attachment.pod.namespace, attachment.pod.name);
                tracing::warn!(pod, %error, "cannot reconcile the pod's network");
                outcome = Err(error);
            }
        }
        outcome
    }
}

impl Held {
    fn restore(config: &Config, attachments: Vec<Attachment>) -> Self {
        let mut pools: Vec<Pool> = config.pod_cidrs.iter().map(|range| Pool::new(*range)).collect();
        for address in attachments.iter().flat_map(|attachment| &attachment.addresses.ips) {
            // An address outside the ranges is of a node whose range changed; the
            // pod keeps it and nobody else can get it.
            for pool in &mut pools {
                pool.take(*address);
            }
        }
        let attachments = attachments.into_iter().map(|a| (a.pod.uid.clone(), a)).collect();
        Self { pools, attachments }
    }

    /// Gives the pod addresses and its host ports; those it has already, if any.
    /// Also answers what it had before.
    fn reserve(
        &mut self,
        netns: &Path,
        pod: &PodIdentity,
        options: &AttachOptions,
    ) -> Result<(Attachment, Option<Attachment>), Error> {
        self.check_host_ports(pod, options)?;
        let previous = self.attachments.get(&pod.uid).cloned();
        let addresses = match &previous {
            Some(previous) => previous.addresses.clone(),
            None => self.allocate()?,
        };
        let attachment =
            Attachment { pod: pod.clone(), netns: netns.to_owned(), addresses, options: options.clone() };
        self.attachments.insert(pod.uid.clone(), attachment.clone());
        Ok((attachment, previous))
    }

    fn allocate(&mut self) -> Result<PodAddresses, Error> {
        let mut ips: Vec<IpAddr> = Vec::new();
        for at in 0..self.pools.len() {
            match self.pools[at].allocate() {
                Some(address) => ips.push(address),
                None => {
                    ips.iter().zip(&mut self.pools).for_each(|(address, pool)| pool.release(*address));
                    return Err(Error::RangeExhausted { range: self.pools[at].range() });
                }
            }
        }
        Ok(PodAddresses { ips })
    }

    fn check_host_ports(&self, pod: &PodIdentity, options: &AttachOptions) -> Result<(), Error> {
        let others = self.attachments.values().filter(|other| other.pod.uid != pod.uid);
        for other in others {
            let taken =
                |wanted: &&HostPort| other.options.host_ports.iter().any(|held| held.overlaps(wanted));
            if let Some(port) = options.host_ports.iter().find(taken) {
                let holder = format!("{}/{}", other.pod.namespace, other.pod.name);
                return Err(Error::HostPortTaken { port: port.host_port, protocol: port.protocol, holder });
            }
        }
        Ok(())
    }

    fn remove(&mut self, uid: &str) {
        if let Some(attachment) = self.attachments.remove(uid) {
            for address in attachment.addresses.ips {
                self.pools.iter_mut().for_each(|pool| pool.release(address));
            }
        }
    }
}

impl HostPort {
    fn overlaps(&self, other: &HostPort) -> bool {
        let wild = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
        let same_address = wild(self.host_ip) || wild(other.host_ip) || self.host_ip == other.host_ip;
        self.protocol == other.protocol && self.host_port == other.host_port && same_address
    }
}

/// TCP host ports that loopback should answer, and where they lead.
fn relayed(attachment: &Attachment) -> Vec<(SocketAddr, SocketAddr)> {
    let of_pod = |port: &HostPort, pod: IpAddr| {
        let loopback = relay::loopback(Ip::of(pod));
        let includes_loopback = port.host_ip.is_none_or(|ip| ip.is_unspecified() || ip == loopback);
        (port.protocol == Protocol::Tcp && includes_loopback)
            .then(|| (SocketAddr::new(loopback, port.host_port), SocketAddr::new(pod, port.container_port)))
    };
    let ports = attachment.options.host_ports.iter();
    ports.flat_map(|port| attachment.addresses.ips.iter().filter_map(move |pod| of_pod(port, *pod))).collect()
}

fn step(step: &'static str, attachment: &Attachment, source: nlink::Error) -> Error {
    Error::Step { step, pod: format!("{}/{}", attachment.pod.namespace, attachment.pod.name), source }
}

fn enable_forwarding(namespace: &Namespace, config: &Config) -> std::io::Result<()> {
    let has = |v4: bool| config.pod_cidrs.iter().any(|range| range.addr().is_ipv4() == v4);
    if has(true) {
        namespace.set_sysctl("net/ipv4/ip_forward", "1")?;
    }
    if has(false) {
        namespace.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// The MTU of the link that carries the node's address.
async fn uplink_mtu(route: &Connection<Route>, config: &Config) -> Result<u32, nlink::Error> {
    let Some(primary) = config.node_ips.first() else { return Ok(DEFAULT_MTU) };
    let addresses = route.get_addresses().await?;
    let Some(address) = addresses.iter().find(|address| address.address() == Some(primary)) else {
        return Ok(DEFAULT_MTU);
    };
    let link = route.get_link_by_index(address.ifindex()).await?;
    // Loopback has 65,536, which no real link takes.
    Ok(link.and_then(|link| link.mtu()).filter(|mtu| *mtu < 65_536).unwrap_or(DEFAULT_MTU))
}
