//! Pod attachment.

use knarr_network::pod::{AttachOptions, Error, HostPort, PodNetwork, Protocol};

use super::support::*;

fn host_port(port: u16, container_port: u16) -> AttachOptions {
    let port = HostPort { protocol: Protocol::Tcp, host_port: port, container_port, host_ip: None };
    AttachOptions { host_ports: vec![port] }
}

#[tokio::test]
async fn pods_reach_each_other_and_the_node_reaches_them() {
    let node = Node::new();
    let network = node.network().await;
    let mut web = node.pod(&network, "web").await;
    let client = node.pod(&network, "client").await;
    let address = web.serve("web", 8080);
    let (name, seen) = ask(&client.netns.dialer(), address).await.expect("pod to pod");
    assert_eq!((name.as_str(), seen), ("web", client.ip), "and the source stays");
    let (_, seen) = ask(&node.netns.dialer(), address).await.expect("node to pod");
    assert_eq!(seen, ip("10.244.1.1"), "a node without an address takes one of its range");
    ask(&web.netns.dialer(), address).await.expect("a pod reaches itself");
}

#[tokio::test]
async fn attaching_again_repairs_and_keeps_the_address() {
    let node = Node::new();
    let network = node.network().await;
    let mut web = node.pod(&network, "web").await;
    let again =
        network.attach(web.netns.path(), &web.identity, &AttachOptions::default()).await.expect("again");
    assert_eq!(again.primary(), Some(web.ip));
    let address = web.serve("web", 8080);
    ask(&node.netns.dialer(), address).await.expect("still reachable");
}

#[tokio::test]
async fn attachments_survive_a_restart_and_the_dead_are_collected() {
    let node = Node::new();
    let network = node.network().await;
    let mut web = node.pod(&network, "web").await;
    let gone = node.pod(&network, "gone").await;
    let address = web.serve("web", 8080);
    drop(network);

    let network = node.network().await;
    ask(&node.netns.dialer(), address).await.expect("reachable before reconciling");
    drop(gone);
    network.reconcile(&[web.identity.uid.clone()]).await.expect("reconcile");
    let left: Vec<String> = network.list().into_iter().map(|attachment| attachment.pod.name).collect();
    assert_eq!(left, ["web"]);
    ask(&node.netns.dialer(), address).await.expect("reachable after");
    let next = node.pod(&network, "next").await;
    assert_ne!(next.ip, web.ip);
}

#[tokio::test]
async fn a_pod_whose_namespace_is_gone_does_not_keep_the_others_from_being_reconciled() {
    let node = Node::new();
    let network = node.network().await;
    let mut live = Vec::new();
    for name in ["lost-1", "dead-1", "lost-2", "dead-2", "lost-3", "dead-3"] {
        let pod = node.pod(&network, name).await;
        if name.starts_with("lost") {
            live.push(pod.identity.uid.clone());
        }
    }
    let failed = network.reconcile(&live).await;
    assert!(matches!(failed, Err(Error::Namespace { .. })), "{failed:?}");
    let mut left: Vec<String> = network.list().into_iter().map(|attachment| attachment.pod.name).collect();
    left.sort();
    assert_eq!(left, ["lost-1", "lost-2", "lost-3"]);
}

#[tokio::test]
async fn a_host_port_leads_to_its_pod_and_has_one_holder() {
    let node = Node::new();
    let network = node.network().await;
    let mut web = node.pod_with(&network, "web", host_port(8088, 80)).await;
    web.serve("web", 80);
    let client = node.pod(&network, "client").await;
    for from in [&node.netns.dialer(), &client.netns.dialer(), &web.netns.dialer()] {
        let (name, _) = ask(from, at("10.244.1.1:8088")).await.expect("host port");
        assert_eq!(name, "web");
    }
    let (name, _) = ask(&node.netns.dialer(), at("127.0.0.1:8088")).await.expect("host port on loopback");
    assert_eq!(name, "web");
    let other = Netns::create(node.dir.path(), "other");
    let refused = network.attach(other.path(), &identity("other"), &host_port(8088, 80)).await;
    assert!(matches!(refused, Err(Error::HostPortTaken { port: 8088, .. })), "{refused:?}");
    network.detach(&web.identity.uid).await.expect("detach");
    network.attach(other.path(), &identity("other"), &host_port(8088, 80)).await.expect("free again");
    network.detach(&identity("other").uid).await.expect("detach");
}

#[tokio::test]
async fn a_failed_attach_leaves_nothing() {
    let node = Node::new();
    let network = node.network().await;
    let nowhere = node.dir.path().join("nowhere");
    let failed = network.attach(&nowhere, &identity("web"), &host_port(8088, 80)).await;
    assert!(matches!(failed, Err(Error::Namespace { .. })), "{failed:?}");
    assert!(network.list().is_empty());
    assert!(pod_links(&node).await.is_empty());
}

#[tokio::test]
async fn destroy_leaves_no_link_rule_or_file() {
    let node = Node::new();
    let network = node.network().await;
    let _web = node.pod_with(&network, "web", host_port(8088, 80)).await;
    assert_eq!(pod_links(&node).await.len(), 1);
    network.destroy().await.expect("destroy");
    assert!(pod_links(&node).await.is_empty());
    assert!(tables(&node).await.is_empty());
    let files = std::fs::read_dir(&node.config.state_dir).expect("list").count();
    assert_eq!(files, 0);
}
