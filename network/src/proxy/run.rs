//! The proxy's task: waits for changes, plans, applies.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use knarr_client::{Change, InformerFactory, ObjectKey, SharedInformer};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::dataplane::{Dataplane, Error};
use super::elements::Difference;
use super::health::HealthChecks;
use super::nftables::NftDataplane;
use super::plan::{self, Frontend, Node, Place};
use super::state::{State, Update, Withdrawn};
use crate::config::Config;
use crate::dialer::Dialer;
use crate::node::Node as NodeObject;
use crate::objects::{EndpointSlice, Service};
use crate::pod::Protocol;
use crate::relay::{self, Relays};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The service proxy of one node.
pub struct Proxy {
    services: SharedInformer<Service>,
    slices: SharedInformer<EndpointSlice>,
    nodes: SharedInformer<NodeObject>,
    dataplane: Box<dyn Dataplane>,
    node: Node,
    state: State,
    /// What answers in user space; none without a kernel.
    listeners: Option<Listeners>,
    shared: Arc<Shared>,
}

/// What informers, handles and the task share.
#[derive(Default)]
struct Shared {
    dirty: Mutex<Dirty>,
    wake: Notify,
    /// The last change that is in the kernel.
    applied: watch::Sender<u64>,
}

#[derive(Default)]
struct Dirty {
    services: BTreeSet<ObjectKey>,
    withdrawn: Withdrawn,
    /// Counts changes, so that one can wait until its own is applied.
    sequence: u64,
}

impl Proxy {
    /// Opens the kernel and asks for the informers.
    ///
    /// # Errors
    /// The process may not use nftables, or the namespace is not there.
    pub fn build(config: &Config, informers: &InformerFactory) -> Result<Self, Error> {
        let dialer = Dialer::open(config.netns.as_deref()).map_err(|source| Error {
            table: config.table(),
            step: "open the network namespace",
            source: source.into(),
        })?;
        let proxy = Self::with(Box::new(NftDataplane::open(config)?), config, informers);
        let listeners = Listeners { relays: Relays::new(dialer.clone()), health: HealthChecks::new(dialer) };
        Ok(Self { listeners: Some(listeners), ..proxy })
    }

    /// The same over another kernel, without listeners on loopback.
    pub fn with(dataplane: Box<dyn Dataplane>, config: &Config, informers: &InformerFactory) -> Self {
        let slices = informers.select::<EndpointSlice>(EndpointSlice::selection());
        slices.add_index(EndpointSlice::BY_SERVICE, EndpointSlice::service_key);
        Self {
            services: informers.select(Service::selection()),
            slices,
            dataplane,
            nodes: informers.select(NodeObject::selection()),
            node: Node { name: config.node_name.clone(), own_addresses: config.dns_ips.clone(), zone: None },
            state: State::default(),
            listeners: None,
            shared: Arc::default(),
        }
    }

    /// For those who must know or influence what the running proxy does.
    pub fn handle(&self) -> ProxyHandle {
        ProxyHandle { slices: self.slices.clone(), shared: Arc::clone(&self.shared) }
    }

    /// Runs until `shutdown`. The rules stay in the kernel: pods and clients go on
    /// while the proxy is away. See [`Dataplane::destroy`] for the end.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let _handlers = (self.follow_services(), self.follow_slices(), self.follow_node());
        let synced = async {
            self.services.synced().await;
            self.slices.synced().await;
            self.nodes.synced().await;
        };
        if shutdown.run_until_cancelled(synced).await.is_none() {
            return;
        }
        let mut retry = FIRST_RETRY;
        let mut is_reconciled = false;
        loop {
            let sequence = self.shared.dirty.lock().sequence;
            match self.sync(is_reconciled).await {
                Ok(()) => {
                    (is_reconciled, retry) = (true, FIRST_RETRY);
                    self.shared.applied.send_replace(sequence);
                    if shutdown.run_until_cancelled(self.shared.wake.notified()).await.is_none() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, ?retry, "services are not as they should be, trying again");
                    is_reconciled = false;
                    if shutdown.run_until_cancelled(tokio::time::sleep(retry)).await.is_none() {
                        return;
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn follow_services(&self) -> impl Drop + use<> {
        let shared = Arc::clone(&self.shared);
        self.services.subscribe(move |change: Change<'_, Service>| {
            shared.mark([ObjectKey::of(&**change.object())]);
        })
    }

    fn follow_slices(&self) -> impl Drop + use<> {
        let shared = Arc::clone(&self.shared);
        self.slices.subscribe(move |change: Change<'_, EndpointSlice>| {
            let before = match &change {
                Change::Updated { old, .. } => service_of(old),
                _ => None,
            };
            shared.mark(before.into_iter().chain(service_of(change.object())));
        })
    }

    /// What a node is in decides which endpoints it prefers.
    fn follow_node(&self) -> impl Drop + use<> {
        let (shared, services) = (Arc::clone(&self.shared), self.services.clone());
        let own = self.node.name.clone();
        self.nodes.subscribe(move |change: Change<'_, NodeObject>| {
            let before = match &change {
                Change::Updated { old, .. } => old.zone(),
                _ => None,
            };
            let node = change.object();
            if *node.metadata.name == *own && before != node.zone() {
                shared.mark(services.list().iter().map(|service| ObjectKey::of(&**service)));
            }
        })
    }

    /// Brings the kernel to what the caches say.
    async fn sync(&mut self, is_reconciled: bool) -> Result<(), Error> {
        let (services, withdrawn) = self.shared.take();
        self.node.zone = self.nodes.get("", &self.node.name).and_then(|node| node.zone().map(Into::into));
        let mut update = Update::default();
        let mut todo: Vec<ObjectKey> = services.into_iter().collect();
        while let Some(service) = todo.pop() {
            let wanted = self.plan(&service, &withdrawn);
            self.check_health(&service, &withdrawn);
            self.state.set(&service, wanted, &mut update);
            todo.extend(update.retry.drain());
        }
        if !is_reconciled {
            let present = self.dataplane.load().await?;
            update.difference = Difference::between(&present, &self.state.elements());
        }
        if !update.difference.is_empty() {
            self.dataplane.apply(&update.difference).await?;
        }
        if !update.stale_flows.is_empty() {
            self.dataplane.forget_flows(&update.stale_flows).await?;
        }
        if !update.lost_affinity.is_empty() {
            self.dataplane.forget_affinity(&update.lost_affinity).await?;
        }
        if let Some(listeners) = &mut self.listeners {
            listeners.relays.set(&self.state.frontends().filter_map(relayed).collect());
            listeners.health.reopen();
        }
        Ok(())
    }

    fn check_health(&mut self, service: &ObjectKey, withdrawn: &HashSet<IpAddr>) {
        let Some(listeners) = &mut self.listeners else { return };
        let check = self.services.get_key(service).and_then(|object| {
            let slices = self.slices.by_index(EndpointSlice::BY_SERVICE, &service.to_string());
            plan::health_check(&object, &slices, &self.node, withdrawn)
        });
        listeners.health.set(service, check);
    }

    fn plan(&self, service: &ObjectKey, withdrawn: &HashSet<IpAddr>) -> Vec<Frontend> {
        let Some(object) = self.services.get_key(service) else { return Vec::new() };
        let slices = self.slices.by_index(EndpointSlice::BY_SERVICE, &service.to_string());
        plan::plan(&object, &slices, &self.node, withdrawn)
    }
}

struct Listeners {
    relays: Relays,
    health: HealthChecks,
}

/// A TCP node port at loopback, and by which address the node reaches the same.
fn relayed(frontend: &Frontend) -> Option<(SocketAddr, SocketAddr)> {
    let Place::Node(ip) = frontend.front.place else { return None };
    let at = SocketAddr::new(relay::loopback(ip), frontend.front.port);
    (frontend.front.protocol == Protocol::Tcp).then_some((at, frontend.inside))
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    slice.service().map(|name| ObjectKey::new(&*slice.metadata.namespace, name))
}

impl Shared {
    /// Answers the number of this change.
    fn mark(&self, services: impl IntoIterator<Item = ObjectKey>) -> u64 {
        let mut dirty = self.dirty.lock();
        dirty.services.extend(services);
        dirty.sequence += 1;
        self.wake.notify_one();
        dirty.sequence
    }

    fn take(&self) -> (BTreeSet<ObjectKey>, HashSet<IpAddr>) {
        let mut dirty = self.dirty.lock();
        (std::mem::take(&mut dirty.services), dirty.withdrawn.addresses())
    }
}

/// A way to a running [`Proxy`].
#[derive(Clone)]
pub struct ProxyHandle {
    slices: SharedInformer<EndpointSlice>,
    shared: Arc<Shared>,
}

impl ProxyHandle {
    /// Waits until the rules in the kernel have been right once.
    pub async fn ready(&self) {
        let mut applied = self.shared.applied.subscribe();
        // The sender is in `self`, so this only ends when the value is there.
        if applied.wait_for(|sequence| *sequence > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends no new connections of this node to these addresses as long as the
    /// answer lives, unless a Service has no others. Returns when that is in
    /// force, so that a pod can be told to stop without losing a connection.
    pub async fn withdraw(&self, addresses: Vec<IpAddr>) -> Withdrawal {
        let withdrawal = self.begin_withdrawal(addresses);
        withdrawal.in_force().await;
        withdrawal
    }

    /// The same without waiting; see [`Withdrawal::in_force`].
    pub fn begin_withdrawal(&self, addresses: Vec<IpAddr>) -> Withdrawal {
        self.shared.dirty.lock().withdrawn.add(&addresses);
        let sequence = self.shared.mark(self.services_at(&addresses));
        Withdrawal { handle: self.clone(), addresses, sequence }
    }

    fn services_at(&self, addresses: &[IpAddr]) -> Vec<ObjectKey> {
        let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let is_at = |slice: &EndpointSlice| {
            let mut all = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
            all.any(|address| texts.iter().any(|text| **text == **address))
        };
        self.slices.filter(is_at).iter().filter_map(|slice| service_of(slice)).collect()
    }
}

/// Keeps addresses out of use; see [`ProxyHandle::withdraw`].
#[must_use = "dropping it puts the addresses back into use"]
pub struct Withdrawal {
    handle: ProxyHandle,
    addresses: Vec<IpAddr>,
    /// The number of the change that took them out.
    sequence: u64,
}

impl Withdrawal {
    /// Waits until the kernel knows.
    pub async fn in_force(&self) {
        let mut applied = self.handle.shared.applied.subscribe();
        // The sender is in the handle, so this only ends when the value is there.
        if applied.wait_for(|done| *done >= self.sequence).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.handle.shared.dirty.lock().withdrawn.remove(&self.addresses);
        self.handle.shared.mark(self.handle.services_at(&self.addresses));
    }
}
