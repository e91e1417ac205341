//! The DNS server's tasks: follow the informers, serve the sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use hickory_proto::rr::Name;
use knarr_api::time::SharedRandom;
use knarr_client::{Change, InformerFactory, ObjectKey, SharedInformer};
use nlink::netlink::types::addr::Scope;
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Authority;
use super::forward::{Forwarder, Transport, read_message, write_message};
use super::server::{Outcome, Server};
use super::zone::Zone;
use crate::config::Config;
use crate::dialer::Dialer;
use crate::kernel::{Namespace, source};
use crate::objects::{EndpointSlice, Namespace as ApiNamespace, Service};

const PORT: u16 = 53;
/// Connections at a time; a client that finds none free tries again.
const MAX_CONNECTIONS: usize = 500;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
const MAX_DATAGRAM: usize = 4096;
/// Pause when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why DNS could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cluster domain {domain:?}: {source}")]
    Domain { domain: String, source: hickory_proto::ProtoError },
    #[error("give the node the cluster dns address {address}: {source}")]
    Address { address: IpAddr, source: nlink::Error },
    #[error("open the node's network: {0}")]
    Network(#[source] nlink::Error),
    #[error("listen for dns at {at}: {source}")]
    Listen { at: SocketAddr, source: io::Error },
}

/// Cluster DNS on one node.
pub struct Dns {
    server: Arc<Server>,
    zone: Arc<RwLock<Zone>>,
    services: SharedInformer<Service>,
    slices: SharedInformer<EndpointSlice>,
    namespaces: SharedInformer<ApiNamespace>,
    datagrams: Vec<Arc<UdpSocket>>,
    listeners: Vec<TcpListener>,
}

impl Dns {
    /// Gives the node the DNS addresses and listens there.
    ///
    /// # Errors
    /// An address cannot be added or is in use.
    pub async fn build(
        config: &Config,
        informers: &InformerFactory,
        random: SharedRandom,
    ) -> Result<Self, Error> {
        let namespace = Namespace::open(config.netns.as_deref()).map_err(Error::Network)?;
        let dialer = Dialer::within(namespace.clone());
        let route = namespace.route().map_err(Error::Network)?;
        route.set_link_up("lo").await.map_err(Error::Network)?;
        let (mut datagrams, mut listeners) = (Vec::new(), Vec::new());
        for address in config.dns_ips.iter().copied() {
            let added = source::add_to_loopback(&route, address, Scope::Host).await;
            added.map_err(|source| Error::Address { address, source })?;
            let at = SocketAddr::new(address, PORT);
            let failed = |source| Error::Listen { at, source };
            datagrams.push(Arc::new(dialer.bind_udp(at).map_err(failed)?));
            listeners.push(dialer.listen(at).map_err(failed)?);
        }
        let slices = informers.select::<EndpointSlice>(EndpointSlice::selection());
        slices.add_index(EndpointSlice::BY_SERVICE, EndpointSlice::service_key);
        let zone = Arc::new(RwLock::new(Zone::default()));
        let forwarder =
            Forwarder::new(dialer, config.resolv_conf.clone(), config.dns_ips.clone(), Arc::clone(&random));
        let server = Server::new(authority(config)?, Arc::clone(&zone), forwarder, random);
        Ok(Self {
            server: Arc::new(server),
            zone,
            services: informers.select(Service::selection()),
            namespaces: informers.select(ApiNamespace::selection()),
            slices,
            datagrams,
            listeners,
        })
    }

    /// Serves until `shutdown`. Questions that come before the caches are full
    /// wait in the sockets.
    pub async fn run(self, shutdown: CancellationToken) {
        let _handlers = (self.follow_services(), self.follow_slices(), self.follow_namespaces());
        let synced = async {
            self.namespaces.synced().await;
            self.services.synced().await;
            self.slices.synced().await;
        };
        if shutdown.run_until_cancelled(synced).await.is_none() {
            return;
        }
        let tasks = TaskTracker::new();
        let datagrams = self.datagrams.iter().map(|socket| self.serve_datagrams(socket, &tasks));
        let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let listeners =
            self.listeners.iter().map(|listener| self.serve_connections(listener, &tasks, &limit));
        let serve = async { tokio::join!(join_all(datagrams), join_all(listeners)) };
        shutdown.run_until_cancelled(serve).await;
        tasks.close();
        // What is under way is bounded by the resolvers' and the idle time.
        tasks.wait().await;
    }

    /// Takes the DNS addresses from the node again.
    pub async fn destroy(config: &Config) -> Result<(), Error> {
        let namespace = Namespace::open(config.netns.as_deref()).map_err(Error::Network)?;
        let route = namespace.route().map_err(Error::Network)?;
        for address in config.dns_ips.iter().copied() {
            let removed = source::remove_from_loopback(&route, address).await;
            removed.map_err(|source| Error::Address { address, source })?;
        }
        Ok(())
    }

    fn follow_services(&self) -> impl Drop + use<> {
        let (zone, slices) = (Arc::clone(&self.zone), self.slices.clone());
        self.services.subscribe(move |change: Change<'_, Service>| {
            let key = ObjectKey::of(&**change.object());
            let service = match &change {
                Change::Deleted { .. } => None,
                _ => Some(&**change.object()),
            };
            refresh(&zone, &key, service, &slices);
        })
    }

    fn follow_slices(&self) -> impl Drop + use<> {
        let (zone, services, slices) = (Arc::clone(&self.zone), self.services.clone(), self.slices.clone());
        self.slices.subscribe(move |change: Change<'_, EndpointSlice>| {
            let before = match &change {
                Change::Updated { old, .. } => Some(&***old),
                _ => None,
            };
            for slice in before.into_iter().chain([&**change.object()]) {
                let Some(name) = slice.service() else { continue };
                let key = ObjectKey::new(&*slice.metadata.namespace, name);
                refresh(&zone, &key, services.get_key(&key).as_deref(), &slices);
            }
        })
    }

    fn follow_namespaces(&self) -> impl Drop + use<> {
        let zone = Arc::clone(&self.zone);
        self.namespaces.subscribe(move |change: Change<'_, ApiNamespace>| {
            let name = &change.object().metadata.name;
            match change {
                Change::Deleted { .. } => zone.write().remove_namespace(name),
                _ => zone.write().add_namespace(name),
            }
        })
    }

    async fn serve_datagrams(&self, socket: &Arc<UdpSocket>, tasks: &TaskTracker) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An unreachable client's answer, reported on the next read.
                Err(error) => {
                    tracing::debug!(%error, "receive dns question");
                    continue;
                }
            };
            match self.server.handle(&buffer[..length], Transport::Udp) {
                Outcome::Reply(reply) => send(socket, &reply, client).await,
                Outcome::Forward(pending) => {
                    let (server, socket) = (Arc::clone(&self.server), Arc::clone(socket));
                    tasks.spawn(async move {
                        if let Some(reply) = server.ask_others(*pending).await {
                            send(&socket, &reply, client).await;
                        }
                    });
                }
                Outcome::Ignore => {}
            }
        }
    }

    async fn serve_connections(&self, listener: &TcpListener, tasks: &TaskTracker, limit: &Arc<Semaphore>) {
        loop {
            let Ok(slot) = Arc::clone(limit).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, client)) => {
                    let server = Arc::clone(&self.server);
                    tasks.spawn(async move {
                        if let Err(error) = converse(&server, stream).await {
                            tracing::debug!(%client, %error, "dns connection");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept dns connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn authority(config: &Config) -> Result<Authority, Error> {
    let domain = Name::from_ascii(&config.cluster_domain).map(|mut name| {
        name.set_fqdn(true);
        name.to_lowercase()
    });
    let domain = domain.map_err(|source| Error::Domain { domain: config.cluster_domain.clone(), source })?;
    let ranges = config.cluster_cidrs.iter().chain(&config.service_cidrs).copied().collect();
    Ok(Authority { domain, ranges, server: config.dns_ips.clone() })
}

fn refresh(
    zone: &RwLock<Zone>,
    key: &ObjectKey,
    service: Option<&Service>,
    slices: &SharedInformer<EndpointSlice>,
) {
    let slices = slices.by_index(EndpointSlice::BY_SERVICE, &key.to_string());
    zone.write().set(key, service, &slices);
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%client, %error, "send dns answer");
    }
}

/// Answers questions one after the other until the client is silent.
async fn converse(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    while let Ok(message) = timeout(IDLE, read_message(&mut stream)).await {
        let Some(message) = message? else { return Ok(()) };
        let reply = match server.handle(&message, Transport::Tcp) {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward(pending) => server.ask_others(*pending).await,
            Outcome::Ignore => None,
        };
        let Some(reply) = reply else { return Ok(()) };
        timeout(IDLE, write_message(&mut stream, &reply)).await??;
    }
    Ok(())
}
