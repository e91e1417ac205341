//! NetworkPolicy with real traffic.

use std::time::Duration;

use knarr_network::policy::Policies;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::support::*;

fn put_pod(api: &Api, pod: &Pod, app: &str) {
    api.pod(&pod.identity.name, json!({"app": app}), json!({
        "spec": {"nodeName": "node-1", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": pod.ip}]},
    }));
}

async fn reaches(from: &Pod, to: std::net::SocketAddr) -> bool {
    let dialer = from.netns.dialer();
    matches!(tokio::time::timeout(Duration::from_millis(300), ask(&dialer, to)).await, Ok(Ok(_)))
}

/// Waits until who may reach whom is as expected: policies take effect soon, not
/// at once.
async fn settles(from: &Pod, to: std::net::SocketAddr, expected: bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while reaches(from, to).await != expected {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} to {to}: expected {expected}",
            from.identity.name
        );
    }
}

fn web_only(rule: Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [rule]})
}

#[tokio::test]
async fn policies_decide_who_reaches_whom() {
    let node = Node::new();
    let network = node.network().await;
    let (mut web, friend, stranger) = (
        node.pod(&network, "web").await,
        node.pod(&network, "friend").await,
        node.pod(&network, "stranger").await,
    );
    let (http, other) = (web.serve("web", 8080), web.serve("web", 9090));
    let api = Api::default();
    api.namespace("default");
    for pod in [&web, &friend, &stranger] {
        put_pod(&api, pod, &pod.identity.name);
    }
    let informers = api.informers();
    let policies = Policies::build(&node.config, &informers).expect("build");
    informers.start();
    let stop = CancellationToken::new();
    let task = tokio::spawn(policies.run(stop.clone()));

    settles(&stranger, http, true).await;
    api.policy("p", web_only(json!({"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "http"}]})));
    settles(&stranger, http, false).await;
    settles(&friend, http, true).await;
    assert!(!reaches(&friend, other).await, "another port");
    settles(&web, other, true).await;
    ask(&node.netns.dialer(), other).await.expect("the node reaches its pods");

    let block = json!({"ipBlock": {"cidr": "10.244.1.0/24", "except": [format!("{}/32", stranger.ip)]}});
    api.policy("p", web_only(json!({"from": [block], "ports": [{"port": 9000, "endPort": 9100}]})));
    settles(&friend, other, true).await;
    assert!(!reaches(&stranger, other).await);
    assert!(!reaches(&friend, http).await);

    api.policy("p", json!({"podSelector": {"matchLabels": {"app": "friend"}}, "policyTypes": ["Egress"]}));
    settles(&friend, http, false).await;
    settles(&stranger, http, true).await;

    api.delete_policy("p");
    settles(&friend, http, true).await;
    stop.cancel();
    task.await.expect("ends");
    informers.stop().await;
    assert!(!tables(&node).await.iter().any(|name| name.ends_with("-policy")));
}
