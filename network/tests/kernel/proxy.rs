//! The running proxy, from API objects to connections.

use knarr_network::proxy::{Proxy, ProxyHandle};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::support::*;

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    handle: ProxyHandle,
    informers: knarr_client::InformerFactory,
}

impl Running {
    async fn start(node: &Node, api: &Api) -> Self {
        let informers = api.informers();
        let proxy = Proxy::build(&node.config, &informers).expect("build");
        informers.start();
        let (stop, handle) = (CancellationToken::new(), proxy.handle());
        let task = tokio::spawn(proxy.run(stop.clone()));
        handle.ready().await;
        Self { stop, task, handle, informers }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("the proxy ends");
        self.informers.stop().await;
    }
}

fn web(api: &Api) {
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}]);
    api.service(
        "web",
        json!({"type": "NodePort", "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20"], "ports": ports}),
    );
}

fn endpoints(api: &Api, pods: &[&Pod]) {
    let endpoints: Vec<_> =
        pods.iter().map(|pod| json!({"addresses": [pod.ip], "nodeName": "node-1"})).collect();
    api.slice("web", json!(endpoints), json!([{"name": "http", "port": 8080}]));
}

#[tokio::test]
async fn a_service_answers_at_its_address_and_at_the_node_s_loopback() {
    let node = Node::new();
    let network = node.network().await;
    let mut a = node.pod(&network, "a").await;
    a.serve("a", 8080);
    let api = Api::default();
    web(&api);
    endpoints(&api, &[&a]);
    let proxy = Running::start(&node, &api).await;
    for address in ["10.96.0.20:80", "10.244.1.1:30080", "127.0.0.1:30080"] {
        let (name, _) =
            ask(&node.netns.dialer(), at(address)).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        assert_eq!(name, "a", "{address}");
    }
    proxy.end().await;
    ask(&node.netns.dialer(), at("10.96.0.20:80")).await.expect("rules outlive the proxy");
}

#[tokio::test]
async fn a_withdrawn_pod_gets_no_new_connections_unless_it_is_the_last() {
    let node = Node::new();
    let network = node.network().await;
    let (mut a, mut b) = (node.pod(&network, "a").await, node.pod(&network, "b").await);
    a.serve("a", 8080);
    b.serve("b", 8080);
    let api = Api::default();
    web(&api);
    endpoints(&api, &[&a, &b]);
    let proxy = Running::start(&node, &api).await;
    let withdrawal = proxy.handle.withdraw(vec![a.ip]).await;
    for _ in 0..20 {
        assert_eq!(ask(&node.netns.dialer(), at("10.96.0.20:80")).await.expect("an answer").0, "b");
    }
    let last = proxy.handle.withdraw(vec![b.ip]).await;
    ask(&node.netns.dialer(), at("10.96.0.20:80")).await.expect("rather one that leaves than none");
    drop((withdrawal, last));
    proxy.end().await;
}
