//! Pods of one node reach those of another.

use std::net::SocketAddr;
use std::time::Duration;

use knarr_network::firewall;
use knarr_network::kernel::Namespace;
use knarr_network::kernel::nft::{Ip, TableRef};
use knarr_network::lan::{Lan, Member};
use knarr_network::node::Routes;
use nlink::netlink::nftables::{BaseChain, FilterHook, Policy, Priority};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::support::*;

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    informers: knarr_client::InformerFactory,
}

impl Running {
    fn start(node: &Node, api: &Api) -> Self {
        let informers = api.informers();
        let routes = Routes::build(&node.config, &informers).expect("build");
        informers.start();
        let stop = CancellationToken::new();
        let task = tokio::spawn(routes.run(stop.clone()));
        Self { stop, task, informers }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("ends");
        self.informers.stop().await;
    }
}

async fn settles(from: &Pod, to: SocketAddr) -> std::net::IpAddr {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let dialer = from.netns.dialer();
    loop {
        match tokio::time::timeout(Duration::from_secs(1), ask(&dialer, to)).await {
            Ok(Ok((_, seen))) => return seen,
            other => assert!(tokio::time::Instant::now() < deadline, "no way from pod to {to}: {other:?}"),
        }
    }
}

/// Pods on both nodes, running routes, and a request each way.
async fn pods_reach_each_other(first: &Node, second: &Node) {
    let api = Api::default();
    for node in [first, second] {
        let address = node.config.node_ips[0].to_string();
        api.node(&node.config.node_name, &node.config.pod_cidrs[0].to_string(), &address);
    }
    let (one, two) = (first.network().await, second.network().await);
    let (mut a, mut b) = (first.pod(&one, "a").await, second.pod(&two, "b").await);
    let (at_a, at_b) = (a.serve("a", 8080), b.serve("b", 8080));
    let (left, right) = (Running::start(first, &api), Running::start(second, &api));
    assert_eq!(settles(&a, at_b).await, a.ip, "the source stays");
    assert_eq!(settles(&b, at_a).await, b.ip);
    ask(&first.netns.dialer(), at_b).await.expect("a node reaches pods of another");
    left.end().await;
    right.end().await;
    for node in [first, second] {
        Routes::destroy(&node.config).await.expect("destroy");
    }
    assert_eq!(pod_links(first).await.len(), 1, "only the pod's link is left");
}

#[tokio::test]
async fn on_one_layer_2_by_plain_routes() {
    let mut first = Node::new();
    let mut second = Node::join(&first);
    connect((&first.netns, "up0"), (&second.netns, "up0")).await;
    first.set_address("up0", "192.0.2.1").await;
    second.set_address("up0", "192.0.2.2").await;
    pods_reach_each_other(&first, &second).await;
}

#[tokio::test]
async fn across_a_router_by_vxlan() {
    let mut first = Node::new();
    let mut second = Node::join(&first);
    let router = Netns::create(first.dir.path(), "router");
    connect((&first.netns, "up0"), (&router, "left")).await;
    connect((&second.netns, "up0"), (&router, "right")).await;
    set_address(&router, "left", "192.0.2.254").await;
    set_address(&router, "right", "198.51.100.254").await;
    let namespace = Namespace::open(Some(router.path())).expect("open the namespace");
    namespace.set_sysctl("net/ipv4/ip_forward", "1").expect("forward");
    first.set_address("up0", "192.0.2.1").await;
    second.set_address("up0", "198.51.100.1").await;
    default_route(&first.netns, "192.0.2.254").await;
    default_route(&second.netns, "198.51.100.254").await;
    pods_reach_each_other(&first, &second).await;
}

/// The second sees the first's address behind a gateway, which is the first itself; the first has it on a link.
#[tokio::test]
async fn where_only_one_side_is_a_neighbour() {
    let mut first = Node::new();
    let mut second = Node::join(&first);
    connect((&first.netns, "up0"), (&second.netns, "up0")).await;
    set_address(&first.netns, "up0", "192.0.2.254").await;
    let elsewhere = Netns::create(first.dir.path(), "elsewhere");
    connect((&first.netns, "own0"), (&elsewhere, "up0")).await;
    first.set_address("own0", "198.51.100.1").await;
    second.set_address("up0", "192.0.2.1").await;
    default_route(&second.netns, "192.0.2.254").await;
    pods_reach_each_other(&first, &second).await;
}

#[tokio::test]
async fn several_nodes_on_one_machine_are_neighbours_and_leave_by_the_machine() {
    let mut machine = Node::new();
    let mut second = Node::join(&machine);
    let world = Netns::create(machine.dir.path(), "world");
    connect((&machine.netns, "up0"), (&world, "down0")).await;
    set_address(&world, "down0", "192.0.2.254").await;
    machine.set_address("up0", "192.0.2.1").await;

    let before = other_links(&machine).await;
    let lan = Lan::new(&machine.config.cluster, "10.232.0.0/24".parse().expect("a range"), vec![]);
    let lan = lan.within(machine.netns.path());
    let member = Member { netns: second.netns.path().to_owned(), address: lan.address(2) };
    for _ in 0..2 {
        lan.ensure().await.expect("the link");
        lan.attach(&member, &machine.config.node_ips).await.expect("a node on it");
    }
    second.config.node_ips = vec![member.address.into()];
    pods_reach_each_other(&machine, &second).await;

    // The world knows nothing of the nodes' link, so it answers only what is masqueraded.
    let listener = world.dialer().listen(at("192.0.2.254:80")).expect("listen");
    let dialer = second.netns.dialer();
    let asked = dialer.connect(at("192.0.2.254:80"));
    let (_, accepted) = tokio::join!(asked, listener.accept());
    assert_eq!(accepted.expect("a connection").1.ip(), ip("192.0.2.1"));

    lan.detach(&member).await.expect("detach");
    lan.destroy().await.expect("destroy");
    assert!(!member.netns.exists(), "the namespace is left");
    assert_eq!(tables(&machine).await, vec![format!("knarr-{}-pods", machine.config.cluster)]);
    assert_eq!(other_links(&machine).await, before, "links between nodes are left");
    lan.detach(&member).await.expect("twice");
    lan.destroy().await.expect("twice");
}

#[tokio::test]
async fn a_firewall_that_drops_what_pods_send_is_found_and_named() {
    let node = Node::new();
    let found = || firewall::obstacles(Some(node.netns.path()));
    assert!(found().await.expect("lists").is_empty());
    let nft = Namespace::open(Some(node.netns.path())).expect("open").nftables().expect("nftables");
    let table = TableRef::new("filter", Ip::V4);
    let accepting = table.filter_chain("before", FilterHook::Forward, Priority::Filter).expect("a chain");
    let base = BaseChain::filter(FilterHook::Forward, Priority::Filter).policy(Policy::Drop);
    let dropping = table.chain("FORWARD").expect("a chain").base(base);
    let batch = nft.transaction().add_table("filter", Ip::V4.family());
    let batch = batch.add_chain(accepting).add_chain(dropping);
    batch.commit(&nft).await.expect("commit");
    let found: Vec<String> = found().await.expect("lists").iter().map(ToString::to_string).collect();
    assert_eq!(found, ["table ip filter, chain FORWARD"]);
}
