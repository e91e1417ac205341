//! The service data plane, with the planner's frontends and real traffic.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use knarr_client::ObjectKey;
use knarr_network::kernel::nft::Ip;
use knarr_network::kernel::ranges::Ranges;
use knarr_network::pod::Protocol;
use knarr_network::proxy::elements::Difference;
use knarr_network::proxy::plan::{Destination, Front, Frontend, Masquerade, Place};
use knarr_network::proxy::state::{State, Update};
use knarr_network::proxy::{Dataplane, NftDataplane};

use super::support::*;

/// The kernel and what should be in it.
struct Proxy {
    dataplane: NftDataplane,
    state: State,
}

impl Proxy {
    async fn start(node: &Node) -> Self {
        let mut dataplane = NftDataplane::open(&node.config).expect("open");
        dataplane.load().await.expect("load");
        Self { dataplane, state: State::default() }
    }

    async fn set(&mut self, service: &str, frontends: Vec<Frontend>) {
        let mut update = Update::default();
        self.state.set(&ObjectKey::new("default", service), frontends, &mut update);
        self.dataplane.apply(&update.difference).await.expect("apply");
        self.dataplane.forget_flows(&update.stale_flows).await.expect("forget flows");
        self.dataplane.forget_affinity(&update.lost_affinity).await.expect("forget affinity");
    }
}

fn to(endpoints: &[SocketAddr], masquerade: Masquerade) -> Destination {
    let mut endpoints = endpoints.to_vec();
    endpoints.sort();
    Destination { endpoints: endpoints.into(), masquerade, affinity: None, drop_when_empty: false }
}

fn front(place: Place, protocol: Protocol, port: u16) -> Front {
    Front { place, protocol, port }
}

fn cluster_ip(endpoints: &[SocketAddr]) -> Frontend {
    Frontend {
        front: front(Place::Address(ip("10.96.0.20")), Protocol::Tcp, 80),
        inside: at(SERVICE),
        main: to(endpoints, Masquerade::Outsiders),
        shortcut: None,
        clients: None,
    }
}

fn node_port(endpoints: &[SocketAddr]) -> Frontend {
    Frontend {
        front: front(Place::Node(Ip::V4), Protocol::Tcp, 30080),
        inside: at(SERVICE),
        main: to(endpoints, Masquerade::Everyone),
        shortcut: None,
        clients: None,
    }
}

async fn names(dialer: &knarr_network::dialer::Dialer, to: SocketAddr, times: usize) -> HashSet<String> {
    let mut names = HashSet::new();
    for _ in 0..times {
        names.insert(ask(dialer, to).await.expect("an answer").0);
    }
    names
}

const SERVICE: &str = "10.96.0.20:80";
const NODE_PORT: &str = "10.244.1.1:30080";

#[tokio::test]
async fn a_cluster_ip_spreads_over_its_endpoints_from_pod_and_node() {
    let node = Node::new();
    let network = node.network().await;
    let (mut a, mut b) = (node.pod(&network, "a").await, node.pod(&network, "b").await);
    let endpoints = [a.serve("a", 8080), b.serve("b", 8080)];
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", vec![cluster_ip(&endpoints)]).await;
    let client = node.pod(&network, "client").await;
    let both = HashSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!(names(&client.netns.dialer(), at(SERVICE), 50).await, both);
    assert_eq!(names(&node.netns.dialer(), at(SERVICE), 50).await, both);
    // An endpoint through its own service reaches both, itself included.
    assert_eq!(names(&a.netns.dialer(), at(SERVICE), 50).await, both);
    let (_, seen) = ask(&client.netns.dialer(), at(SERVICE)).await.expect("an answer");
    assert_eq!(seen, client.ip, "pods keep their address");
}

#[tokio::test]
async fn a_node_port_answers_on_the_node_s_address() {
    let node = Node::new();
    let network = node.network().await;
    let mut a = node.pod(&network, "a").await;
    let client = node.pod(&network, "client").await;
    let endpoints = [a.serve("a", 8080)];
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", vec![node_port(&endpoints)]).await;
    let (name, seen) = ask(&client.netns.dialer(), at(NODE_PORT)).await.expect("an answer");
    assert_eq!((name.as_str(), seen), ("a", ip("10.244.1.1")), "masqueraded");
    ask(&node.netns.dialer(), at(NODE_PORT)).await.expect("from the node");
}

#[tokio::test]
async fn local_traffic_policy_keeps_the_client_and_exempts_the_cluster() {
    let node = Node::new();
    let network = node.network().await;
    let mut a = node.pod(&network, "a").await;
    let client = node.pod(&network, "client").await;
    let endpoints = [a.serve("a", 8080)];
    let mut frontend = node_port(&[]);
    frontend.main.drop_when_empty = true;
    frontend.shortcut = Some(to(&endpoints, Masquerade::Outsiders));
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", vec![frontend.clone()]).await;
    let (_, seen) = ask(&client.netns.dialer(), at(NODE_PORT)).await.expect("by the shortcut");
    assert_eq!(seen, client.ip);
    frontend.main = to(&endpoints, Masquerade::Nobody);
    proxy.set("web", vec![frontend]).await;
    ask(&node.netns.dialer(), at(NODE_PORT)).await.expect("from the node");
}

#[tokio::test]
async fn without_endpoints_and_on_other_ports_clients_are_refused_at_once() {
    let node = Node::new();
    let network = node.network().await;
    let client = node.pod(&network, "client").await;
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", vec![cluster_ip(&[]), node_port(&[])]).await;
    for (who, from) in [("pod", &client.netns.dialer()), ("node", &node.netns.dialer())] {
        for address in [SERVICE, "10.96.0.20:81", "10.96.7.7:443", NODE_PORT] {
            let error = ask(from, at(address)).await.expect_err("nobody is there");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{who} to {address}: {error}");
        }
    }
}

#[tokio::test]
async fn clients_with_affinity_stay_until_their_endpoint_goes() {
    let node = Node::new();
    let network = node.network().await;
    let mut pods = Vec::new();
    for name in ["a", "b", "c"] {
        pods.push(node.pod(&network, name).await);
    }
    let mut endpoints: Vec<SocketAddr> = Vec::new();
    for (pod, name) in pods.iter_mut().zip(["a", "b", "c"]) {
        endpoints.push(pod.serve(name, 8080));
    }
    let sticky = |endpoints: &[SocketAddr]| {
        let mut frontend = cluster_ip(endpoints);
        frontend.main.affinity = Some(60);
        frontend
    };
    let client = node.pod(&network, "client").await;
    let client_network = client.netns.dialer();
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", vec![sticky(&endpoints)]).await;
    let first = names(&client_network, at(SERVICE), 20).await;
    assert_eq!(first.len(), 1, "{first:?}");
    let rest: Vec<SocketAddr> = endpoints
        .iter()
        .zip(["a", "b", "c"])
        .filter(|(_, name)| !first.contains(*name))
        .map(|(endpoint, _)| *endpoint)
        .collect();
    proxy.set("web", vec![sticky(&rest)]).await;
    let second = names(&client_network, at(SERVICE), 20).await;
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(first.is_disjoint(&second));
}

#[tokio::test]
async fn a_balancers_source_ranges_keep_others_out_also_after_a_restart() {
    let node = Node::new();
    let network = node.network().await;
    let mut a = node.pod(&network, "a").await;
    let endpoints = [a.serve("a", 8080)];
    let (friend, stranger) = (node.pod(&network, "friend").await, node.pod(&network, "stranger").await);
    let balancer = |clients: &[IpAddr]| {
        let mut ranges = Ranges::default();
        clients.iter().for_each(|client| ranges.add_block((*client).into(), []));
        let mut frontend = cluster_ip(&endpoints);
        frontend.front = front(Place::Address(ip("192.0.2.8")), Protocol::Tcp, 80);
        frontend.clients = (!clients.is_empty()).then(|| Arc::new(ranges));
        vec![cluster_ip(&endpoints), frontend]
    };
    const BALANCER: &str = "192.0.2.8:80";
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", balancer(&[friend.ip])).await;
    ask(&friend.netns.dialer(), at(BALANCER)).await.expect("it is in the range");
    ask(&stranger.netns.dialer(), at(SERVICE)).await.expect("the ClusterIP is everyone's");
    let shut_out = async |pod: &Pod| {
        let dialer = pod.netns.dialer();
        // A second is long for a link in the same kernel, and being shut out cannot take too little time.
        let connecting = tokio::time::timeout(Duration::from_secs(1), dialer.connect(at(BALANCER)));
        assert!(connecting.await.is_err(), "nobody answers");
    };
    shut_out(&stranger).await;
    // Another process finds in the kernel what this one wrote, and changes only the difference.
    let mut again = NftDataplane::open(&node.config).expect("open");
    assert_eq!(again.load().await.expect("load"), proxy.state.elements());
    proxy.set("web", balancer(&[stranger.ip])).await;
    ask(&stranger.netns.dialer(), at(BALANCER)).await.expect("it is in the range now");
    shut_out(&friend).await;
    proxy.set("web", balancer(&[])).await;
    ask(&friend.netns.dialer(), at(BALANCER)).await.expect("everyone is let in");
}

#[tokio::test]
async fn udp_clients_move_when_their_endpoint_goes() {
    let node = Node::new();
    let network = node.network().await;
    let (mut a, mut b) = (node.pod(&network, "a").await, node.pod(&network, "b").await);
    let (at_a, at_b) = (a.serve_udp("a", 5353), b.serve_udp("b", 5353));
    let client = node.pod(&network, "client").await;
    let udp = |endpoints: &[SocketAddr]| Frontend {
        front: front(Place::Address(ip("10.96.0.53")), Protocol::Udp, 53),
        inside: at(SERVICE),
        main: to(endpoints, Masquerade::Outsiders),
        shortcut: None,
        clients: None,
    };
    let mut proxy = Proxy::start(&node).await;
    proxy.set("dns", vec![udp(&[at_a])]).await;
    // One socket, so that conntrack sees one flow.
    let socket = client.netns.dialer().connect_udp(at("10.96.0.53:53")).await.expect("a socket");
    assert_eq!(ask_udp(&socket).await.expect("an answer"), "a");
    proxy.set("dns", vec![udp(&[at_b])]).await;
    assert_eq!(ask_udp(&socket).await.expect("an answer"), "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_endpoints_come_and_go() {
    let node = Node::new();
    let network = node.network().await;
    let mut pods = Vec::new();
    for number in 0..4 {
        pods.push(node.pod(&network, &format!("pod{number}")).await);
    }
    let endpoints: Vec<SocketAddr> = pods.iter_mut().map(|pod| pod.serve("pod", 8080)).collect();
    let client = node.pod(&network, "client").await;
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", vec![cluster_ip(&endpoints[..1])]).await;
    const REQUESTS: usize = 4000;
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (dialer, answered) = (client.netns.dialer(), Arc::clone(&answered));
            tokio::spawn(async move {
                while answered.load(Ordering::Relaxed) < REQUESTS {
                    ask(&dialer, at(SERVICE)).await.expect("no request is lost");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut updates = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        let some: Vec<SocketAddr> =
            (0..=updates % 4).map(|number| endpoints[(updates + number) % 4]).collect();
        proxy.set("web", vec![cluster_ip(&some)]).await;
        updates += 1;
    }
    for client in clients {
        client.await.expect("no client failed");
    }
    assert!(updates > 20, "only {updates} updates ran meanwhile");
}

#[tokio::test]
async fn a_restart_finds_its_rules_and_repairs_what_differs() {
    let node = Node::new();
    let network = node.network().await;
    let mut a = node.pod(&network, "a").await;
    let endpoints = [a.serve("a", 8080)];
    let wanted = vec![cluster_ip(&endpoints), node_port(&endpoints)];
    let mut proxy = Proxy::start(&node).await;
    proxy.set("web", wanted.clone()).await;
    let mut stale = cluster_ip(&endpoints);
    stale.front.port = 99;
    proxy.set("stale", vec![stale]).await;
    drop(proxy);

    ask(&node.netns.dialer(), at(SERVICE)).await.expect("it works while nobody is there");
    let mut dataplane = NftDataplane::open(&node.config).expect("open");
    let present = dataplane.load().await.expect("load");
    let mut state = State::default();
    state.set(&ObjectKey::new("default", "web"), wanted, &mut Update::default());
    let difference = Difference::between(&present, &state.elements());
    assert!(difference.add.is_empty(), "{difference:?}");
    assert_eq!(difference.delete.len(), 2, "only the stale service goes: {difference:?}");
    dataplane.apply(&difference).await.expect("apply");
    ask(&node.netns.dialer(), at(SERVICE)).await.expect("it works after");
    assert!(ask(&node.netns.dialer(), at("10.96.0.20:99")).await.is_err());
    dataplane.destroy().await.expect("destroy");
    assert!(!tables(&node).await.contains(&node.config.table()));
}
