//! Loads and updates the service rules of clusters of several sizes, in a
//! network namespace of its own, and prints the times. Needs root:
//! `cargo bench -p knarr-network`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use knarr_client::ObjectKey;
use knarr_network::config::Config;
use knarr_network::pod::Protocol;
use knarr_network::proxy::elements::Difference;
use knarr_network::proxy::plan::{Destination, Front, Frontend, Masquerade, Place};
use knarr_network::proxy::state::{State, Update};
use knarr_network::proxy::{Dataplane, NftDataplane};
use nlink::netlink::namespace;

const SIZES: [u32; 2] = [1_000, 10_000];
const ENDPOINTS: u32 = 5;
const UPDATES: u32 = 200;

fn config(dir: &std::path::Path) -> Config {
    Config {
        tunnel: "bench".into(),
        cluster: "bench".into(),
        node_name: "node".into(),
        node_ips: Vec::new(),
        cluster_cidrs: vec!["10.244.0.0/16".parse().expect("a range")],
        pod_cidrs: vec!["10.244.1.0/24".parse().expect("a range")],
        service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        dns_ips: Vec::new(),
        cluster_domain: "cluster.local".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        masquerade_mark: 0x4000,
        mtu: None,
        netns: Some(dir.join("node")),
        state_dir: dir.join("pods"),
    }
}

fn service(number: u32, first_endpoint: u32) -> (ObjectKey, Vec<Frontend>) {
    let ip = IpAddr::from((0x0a60_0000 + number).to_be_bytes());
    let endpoints = (0..ENDPOINTS).map(|n| {
        let offset = (number * ENDPOINTS + first_endpoint + n) % 0xffff;
        SocketAddr::new(IpAddr::from((0x0af4_0000 + offset).to_be_bytes()), 8080)
    });
    let mut endpoints: Vec<SocketAddr> = endpoints.collect();
    endpoints.sort();
    let main = Destination {
        endpoints: endpoints.into(),
        masquerade: Masquerade::Outsiders,
        affinity: None,
        drop_when_empty: false,
    };
    let front = Front { place: Place::Address(ip), protocol: Protocol::Tcp, port: 80 };
    let frontend = Frontend { front, inside: SocketAddr::new(ip, 80), main, shortcut: None, clients: None };
    (ObjectKey::new("default", format!("service-{number}")), vec![frontend])
}

async fn measure(config: &Config, services: u32) {
    let mut dataplane = NftDataplane::open(config).expect("open");
    let present = dataplane.load().await.expect("load");
    let mut state = State::default();
    let begin = Instant::now();
    for number in 0..services {
        let (key, frontends) = service(number, 0);
        state.set(&key, frontends, &mut Update::default());
    }
    let planned = begin.elapsed();
    let begin = Instant::now();
    dataplane.apply(&Difference::between(&present, &state.elements())).await.expect("apply");
    let loaded = begin.elapsed();
    let begin = Instant::now();
    let present = dataplane.load().await.expect("load");
    assert!(Difference::between(&present, &state.elements()).is_empty(), "the kernel has what was sent");
    let reconciled = begin.elapsed();
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..UPDATES {
        let (key, frontends) = service(round * (services / UPDATES), 1);
        let begin = Instant::now();
        let mut update = Update::default();
        state.set(&key, frontends, &mut update);
        dataplane.apply(&update.difference).await.expect("apply");
        times.push(begin.elapsed());
    }
    times.sort();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!(
        "{services:>6} services x {ENDPOINTS}: plan {planned:.1?}, load {loaded:.1?}, compare after restart \
         {reconciled:.1?}, update of one p50 {half:.2?} p99 {most:.2?}"
    );
    dataplane.destroy().await.expect("destroy");
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = config(dir.path());
    let netns = dir.path().join("node");
    namespace::create_path(&netns).expect("make a network namespace (needs root)");
    let result = std::panic::catch_unwind(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        for services in SIZES {
            runtime.block_on(measure(&config, services));
        }
    });
    namespace::delete_path(&netns).expect("remove the namespace");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
