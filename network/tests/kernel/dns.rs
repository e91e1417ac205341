//! Cluster DNS, asked by a pod.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use knarr_api::time::SeededRandom;
use knarr_network::dialer::Dialer;
use knarr_network::dns::Dns;
use knarr_network::dns::forward::{read_message, write_message};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::support::*;

/// DNS running on a node, with a pod that asks.
struct Cluster {
    stop: CancellationToken,
    running: JoinHandle<()>,
    informers: knarr_client::InformerFactory,
    client: Pod,
    api: Api,
    _node: Node,
}

const SERVER: &str = "10.96.0.10:53";

impl Cluster {
    async fn start(api: Api) -> Self {
        let node = Node::new();
        let network = node.network().await;
        let client = node.pod(&network, "client").await;
        std::fs::write(&node.config.resolv_conf, "# nobody\nnameserver 10.96.0.10\n").expect("write");
        let informers = api.informers();
        let random = Arc::new(SeededRandom::new(1));
        let dns = Dns::build(&node.config, &informers, random).await.expect("build");
        informers.start();
        let stop = CancellationToken::new();
        let running = tokio::spawn(dns.run(stop.clone()));
        Self { stop, running, informers, client, api, _node: node }
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        ask_dns(&self.client.netns.dialer(), name, kind, None).await
    }

    /// The answers as text, sorted.
    async fn answers(&self, name: &str, kind: RecordType) -> Vec<String> {
        let message = self.ask(name, kind).await;
        let mut answers: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
        answers.sort();
        answers
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.expect("dns ends");
        self.informers.stop().await;
    }
}

fn question(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().expect("encodes")
}

async fn ask_dns(dialer: &Dialer, name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let socket = dialer.connect_udp(at(SERVER)).await.expect("a socket");
    socket.send(&question(name, kind, payload)).await.expect("send");
    let mut buffer = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer));
    let length = length.await.expect("an answer in time").expect("an answer");
    Message::from_vec(&buffer[..length]).expect("a message")
}

async fn ask_tcp(dialer: &Dialer, name: &str, kind: RecordType) -> Message {
    let mut stream = dialer.connect(at(SERVER)).await.expect("connect");
    write_message(&mut stream, &question(name, kind, None)).await.expect("send");
    let bytes = read_message(&mut stream).await.expect("read").expect("an answer");
    Message::from_vec(&bytes).expect("a message")
}

fn sample() -> Api {
    let api = Api::default();
    api.namespace("default");
    let port = json!([{"name": "http", "protocol": "TCP", "port": 80}]);
    api.service("web", json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": port}));
    api.service("db", json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": port}));
    api.service("alias", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}));
    let endpoints = json!([
        {"addresses": ["10.244.1.7"], "hostname": "db-0"},
        {"addresses": ["10.244.1.8"]},
        {"addresses": ["10.244.1.9"], "conditions": {"ready": false}},
    ]);
    api.slice("db", endpoints, json!([{"name": "http", "protocol": "TCP", "port": 8080}]));
    api
}

#[tokio::test]
async fn names_of_services_endpoints_and_pods_resolve() {
    let cluster = Cluster::start(sample()).await;
    use RecordType::{A, AAAA, PTR, SRV};
    assert_eq!(cluster.answers("web.default.svc.cluster.local.", A).await, ["10.96.0.20"]);
    assert_eq!(cluster.answers("WEB.Default.svc.cluster.local.", A).await, ["10.96.0.20"]);
    assert_eq!(cluster.answers("db.default.svc.cluster.local.", A).await, ["10.244.1.7", "10.244.1.8"]);
    assert_eq!(cluster.answers("db-0.db.default.svc.cluster.local.", A).await, ["10.244.1.7"]);
    assert_eq!(cluster.answers("10-244-1-8.db.default.svc.cluster.local.", A).await, ["10.244.1.8"]);
    assert_eq!(cluster.answers("10-244-1-9.default.pod.cluster.local.", A).await, ["10.244.1.9"]);
    assert_eq!(
        cluster.answers("_http._tcp.web.default.svc.cluster.local.", SRV).await,
        ["0 100 80 web.default.svc.cluster.local."]
    );
    assert_eq!(
        cluster.answers("_http._tcp.db.default.svc.cluster.local.", SRV).await,
        [
            "0 50 8080 10-244-1-8.db.default.svc.cluster.local.",
            "0 50 8080 db-0.db.default.svc.cluster.local."
        ]
    );
    assert_eq!(cluster.answers("20.0.96.10.in-addr.arpa.", PTR).await, ["web.default.svc.cluster.local."]);
    assert_eq!(
        cluster.answers("7.1.244.10.in-addr.arpa.", PTR).await,
        ["db-0.db.default.svc.cluster.local."]
    );
    assert_eq!(
        cluster.answers("alias.default.svc.cluster.local.", A).await,
        ["10.96.0.20", "web.default.svc.cluster.local."]
    );
    let none = cluster.ask("web.default.svc.cluster.local.", AAAA).await;
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(none.authorities.len(), 1, "with the SOA");
    cluster.end().await;
}

#[tokio::test]
async fn what_does_not_exist_is_said_so_with_the_soa() {
    let cluster = Cluster::start(sample()).await;
    for name in ["nope.default.svc.cluster.local.", "web.nope.svc.cluster.local.", "a.b.c.cluster.local."] {
        let message = cluster.ask(name, RecordType::A).await;
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert!(message.metadata.authoritative);
        assert_eq!(message.authorities[0].ttl, 5, "{name}");
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
    }
    let elsewhere = cluster.ask("example.org.", RecordType::A).await;
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::Refused, "no resolver but ourselves");
    cluster.end().await;
}

#[tokio::test]
async fn changes_are_answered_at_once() {
    let cluster = Cluster::start(sample()).await;
    assert_eq!(cluster.answers("web.default.svc.cluster.local.", RecordType::A).await, ["10.96.0.20"]);
    cluster.api.delete_service("web");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while cluster.ask("web.default.svc.cluster.local.", RecordType::A).await.metadata.response_code
        != ResponseCode::NXDomain
    {
        assert!(tokio::time::Instant::now() < deadline, "the name is still there");
    }
    let reverse = cluster.ask("20.0.96.10.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(reverse.metadata.response_code, ResponseCode::NXDomain);
    cluster.end().await;
}

#[tokio::test]
async fn what_does_not_fit_is_cut_and_whole_over_tcp() {
    let api = sample();
    let endpoints: Vec<Value> = (1..=200).map(|n| json!({"addresses": [format!("10.244.1.{n}")]})).collect();
    api.slice("db", json!(endpoints), json!([{"name": "http", "port": 8080}]));
    let cluster = Cluster::start(api).await;
    let dialer = cluster.client.netns.dialer();
    let name = "db.default.svc.cluster.local.";
    let small = ask_dns(&dialer, name, RecordType::A, None).await;
    assert!(small.metadata.truncation && small.answers.len() > 20, "{} answers", small.answers.len());
    let larger = ask_dns(&dialer, name, RecordType::A, Some(1232)).await;
    assert!(larger.metadata.truncation && larger.answers.len() > small.answers.len());
    assert!(larger.edns.is_some() && small.edns.is_none());
    let whole = ask_tcp(&dialer, name, RecordType::A).await;
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
    cluster.end().await;
}

#[tokio::test]
async fn garbage_is_answered_or_ignored_but_never_harms() {
    let cluster = Cluster::start(sample()).await;
    let socket = cluster.client.netns.dialer().connect_udp(at(SERVER)).await.expect("a socket");
    for garbage in [&b""[..], b"x", &[0xff; 12], &[0; 12], &[7; 600]] {
        socket.send(garbage).await.expect("send");
    }
    let broken = [0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0, 63];
    socket.send(&broken).await.expect("send");
    assert_eq!(cluster.answers("web.default.svc.cluster.local.", RecordType::A).await, ["10.96.0.20"]);
    cluster.end().await;
}

#[tokio::test]
async fn other_names_are_passed_to_the_machine_s_resolver() {
    let cluster = Cluster::start(sample()).await;
    // A pod of the cluster plays the resolver; ours reaches it from the node.
    let socket =
        cluster.client.netns.dialer().bind_udp(SocketAddr::new(cluster.client.ip, 53)).expect("bind");
    std::fs::write(&cluster._node.config.resolv_conf, format!("nameserver {}\n", cluster.client.ip))
        .expect("write");
    let resolver = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.expect("a question");
        let mut message = Message::from_vec(&buffer[..length]).expect("a message").into_response();
        message.metadata.response_code = ResponseCode::NotZone;
        socket.send_to(&message.to_vec().expect("encodes"), from).await.expect("answer");
    });
    let message = cluster.ask("example.org.", RecordType::A).await;
    assert_eq!(message.metadata.response_code, ResponseCode::NotZone, "the resolver's own answer");
    resolver.await.expect("the resolver was asked");
    cluster.end().await;
}
