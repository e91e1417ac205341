//! A node and its pods, for tests: everything goes when the values drop.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use knarr_network::config::Config;
use knarr_network::dialer::Dialer;
use knarr_network::pod::{AttachOptions, PodIdentity, PodNetwork, RoutedNetwork};
use nlink::netlink::namespace;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// A network namespace mounted in a directory of its own.
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    pub fn create(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        namespace::create_path(&path).expect("make a network namespace (needs root)");
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dialer(&self) -> Dialer {
        Dialer::open(Some(&self.path)).expect("open the namespace")
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = namespace::delete_path(&self.path) {
            eprintln!("remove {}: {error}", self.path.display());
        }
    }
}

/// A machine with nothing but loopback: no address, no route.
pub struct Node {
    // Dropped in this order: the namespace is mounted in the directory.
    pub netns: Netns,
    pub config: Config,
    pub dir: TempDir,
}

impl Node {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::tempdir().expect("a directory");
        let netns = Netns::create(dir.path(), "node");
        let config = Config {
            cluster: format!("test{number}"),
            tunnel: format!("test{number}"),
            node_name: "node-1".into(),
            node_ips: Vec::new(),
            cluster_cidrs: vec![range("10.244.0.0/16")],
            pod_cidrs: vec![range("10.244.1.0/24")],
            service_cidrs: vec![range("10.96.0.0/16")],
            dns_ips: vec![ip("10.96.0.10")],
            cluster_domain: "cluster.local".into(),
            resolv_conf: dir.path().join("resolv.conf"),
            masquerade_mark: 0x4000,
            mtu: None,
            netns: Some(netns.path().to_owned()),
            state_dir: dir.path().join("pods"),
        };
        Self { netns, config, dir }
    }

    /// The second of two nodes: other pods, other names, the same cluster.
    pub fn join(first: &Node) -> Self {
        let mut node = Self::new();
        node.config.tunnel = first.config.tunnel.clone();
        node.config.node_name = "node-2".into();
        node.config.pod_cidrs = vec![range("10.244.2.0/24")];
        node
    }

    /// Gives the node an address on a link that is already there, and brings it up.
    pub async fn set_address(&mut self, link: &str, address: &str) {
        set_address(&self.netns, link, address).await;
        self.config.node_ips = vec![ip(address)];
    }

    pub async fn network(&self) -> RoutedNetwork {
        RoutedNetwork::open(&self.config).await.expect("open the pod network")
    }

    /// A pod with an address.
    pub async fn pod(&self, network: &RoutedNetwork, name: &str) -> Pod {
        self.pod_with(network, name, AttachOptions::default()).await
    }

    pub async fn pod_with(&self, network: &RoutedNetwork, name: &str, options: AttachOptions) -> Pod {
        let netns = Netns::create(self.dir.path(), name);
        let identity = identity(name);
        let addresses = network.attach(netns.path(), &identity, &options).await.expect("attach the pod");
        let ip = addresses.primary().expect("an address");
        Pod { netns, identity, ip, servers: Vec::new() }
    }
}

pub fn identity(name: &str) -> PodIdentity {
    PodIdentity { namespace: "default".into(), name: name.into(), uid: format!("uid-of-{name}") }
}

pub struct Pod {
    pub netns: Netns,
    pub identity: PodIdentity,
    pub ip: IpAddr,
    servers: Vec<JoinHandle<()>>,
}

impl Pod {
    /// Answers each TCP connection with a name and the client's address.
    pub fn serve(&mut self, name: &str, port: u16) -> SocketAddr {
        let at = SocketAddr::new(self.ip, port);
        let listener = self.netns.dialer().listen(at).expect("listen in the pod");
        let name: Arc<str> = name.into();
        self.servers.push(tokio::spawn(async move {
            while let Ok((mut stream, client)) = listener.accept().await {
                let name = Arc::clone(&name);
                tokio::spawn(async move {
                    let text = format!("{name} {}", client.ip());
                    if let Err(error) = stream.write_all(text.as_bytes()).await {
                        eprintln!("answer of {name}: {error}");
                    }
                });
            }
        }));
        at
    }

    /// Answers each datagram with a name.
    pub fn serve_udp(&mut self, name: &str, port: u16) -> SocketAddr {
        let at = SocketAddr::new(self.ip, port);
        let socket = self.netns.dialer().bind_udp(at).expect("bind in the pod");
        let name: Arc<str> = name.into();
        self.servers.push(tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((_, client)) = socket.recv_from(&mut buffer).await {
                if let Err(error) = socket.send_to(name.as_bytes(), client).await {
                    eprintln!("answer of {name}: {error}");
                }
            }
        }));
        at
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

/// One TCP request: the server's name and the client address it saw.
pub async fn ask(dialer: &Dialer, to: SocketAddr) -> std::io::Result<(String, IpAddr)> {
    let ask = async {
        let mut stream = dialer.connect(to).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (name, client) =
            text.split_once(' ').ok_or_else(|| std::io::Error::other(format!("got {text:?}")))?;
        Ok((name.to_owned(), client.parse().map_err(std::io::Error::other)?))
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), ask).await?
}

/// One UDP request from a given socket: the server's name.
pub async fn ask_udp(socket: &tokio::net::UdpSocket) -> std::io::Result<String> {
    socket.send(b"who?").await?;
    let mut buffer = [0; 64];
    let length = tokio::time::timeout(std::time::Duration::from_secs(20), socket.recv(&mut buffer)).await??;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

pub fn range(text: &str) -> ipnet::IpNet {
    text.parse().expect("a range")
}

/// Links of the node that belong to pods.
pub async fn pod_links(node: &Node) -> Vec<String> {
    let mut links = links(node).await;
    links.retain(|name| is_of_a_pod(name));
    links
}

/// Links of the node that belong to none.
pub async fn other_links(node: &Node) -> Vec<String> {
    let mut links = links(node).await;
    links.retain(|name| !is_of_a_pod(name));
    links
}

fn is_of_a_pod(link: &str) -> bool {
    link.starts_with("kn")
}

async fn links(node: &Node) -> Vec<String> {
    let connection: nlink::Connection<nlink::Route> =
        nlink::Connection::new_in(node.netns.path()).expect("open netlink");
    let links = connection.get_links().await.expect("list links");
    links.iter().filter_map(|link| link.name()).map(str::to_owned).collect()
}

/// Names of the node's nftables tables.
pub async fn tables(node: &Node) -> Vec<String> {
    let connection: nlink::Connection<nlink::Nftables> =
        nlink::Connection::new_in(node.netns.path()).expect("open nftables");
    connection.list_tables().await.expect("list tables").into_iter().map(|table| table.name).collect()
}

/// Connects two namespaces by a link of this name at both ends.
pub async fn connect(a: (&Netns, &str), b: (&Netns, &str)) {
    let route: nlink::Connection<nlink::Route> = nlink::Connection::new_in(a.0.path()).expect("open netlink");
    let far = std::fs::File::open(b.0.path()).expect("open the namespace");
    let link = nlink::netlink::link::VethLink::new(a.1, b.1).peer_netns_fd(far);
    route.add_link(link).await.expect("make a link");
}

pub async fn set_address(netns: &Netns, link: &str, address: &str) {
    let IpAddr::V4(address) = ip(address) else { panic!("tests use IPv4") };
    let route: nlink::Connection<nlink::Route> =
        nlink::Connection::new_in(netns.path()).expect("open netlink");
    let address = nlink::Ipv4Address::new(link, address, 24);
    route.add_address(address).await.expect("add an address");
    route.set_link_up(link).await.expect("bring the link up");
}

pub async fn default_route(netns: &Netns, by: &str) {
    let IpAddr::V4(by) = ip(by) else { panic!("tests use IPv4") };
    let route: nlink::Connection<nlink::Route> =
        nlink::Connection::new_in(netns.path()).expect("open netlink");
    route.add_route(nlink::Ipv4Route::default_route().gateway(by)).await.expect("add the default route");
}
