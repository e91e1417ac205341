//! Ports on the node's loopback addresses, in user space: the kernel does not
//! translate connections from 127.0.0.0/8 to elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::dialer::Dialer;
use crate::kernel::nft::Ip;

/// Connections at a time, over all ports.
const MAX_CONNECTIONS: usize = 1024;
/// As long as a client would wait for an unanswered SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The relays of one node.
pub struct Relays {
    dialer: Dialer,
    limit: Arc<Semaphore>,
    running: HashMap<SocketAddr, Relay>,
}

/// One listener; it and its connections end when this drops.
struct Relay {
    target: SocketAddr,
    _stop: DropGuard,
}

impl Relays {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, limit: Arc::new(Semaphore::new(MAX_CONNECTIONS)), running: HashMap::new() }
    }

    /// Starts and stops listeners so that there is one at each of the addresses,
    /// leading to the address beside it. A port that something else listens on is
    /// left to it, and tried again with the next change.
    pub fn set(&mut self, wanted: &BTreeMap<SocketAddr, SocketAddr>) {
        self.running.retain(|at, relay| wanted.get(at) == Some(&relay.target));
        for (at, target) in wanted {
            if self.running.contains_key(at) {
                continue;
            }
            match self.dialer.listen(*at) {
                Ok(listener) => {
                    let relay = self.start(listener, *target);
                    self.running.insert(*at, relay);
                }
                Err(error) => tracing::warn!(%at, %error, "port does not answer on loopback"),
            }
        }
    }

    fn start(&self, listener: TcpListener, target: SocketAddr) -> Relay {
        let stop = CancellationToken::new();
        let serve = serve(listener, target, self.dialer.clone(), Arc::clone(&self.limit), stop.clone());
        tokio::spawn(serve);
        Relay { target, _stop: stop.drop_guard() }
    }
}

/// The loopback address of a family.
pub fn loopback(ip: Ip) -> IpAddr {
    match ip {
        Ip::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Ip::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    dialer: Dialer,
    limit: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let accept = async {
        loop {
            let Ok(slot) = Arc::clone(&limit).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((client, _)) => {
                    let (dialer, stop) = (dialer.clone(), stop.clone());
                    tokio::spawn(async move {
                        if let Some(Err(error)) =
                            stop.run_until_cancelled(relay(client, target, &dialer)).await
                        {
                            tracing::debug!(%target, %error, "relayed connection");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%target, %error, "accept on loopback");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accept).await;
}

async fn relay(mut client: TcpStream, target: SocketAddr, dialer: &Dialer) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = tokio::time::timeout(CONNECT_TIMEOUT, dialer.connect(target)).await??;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
