//! The node's part of the pod range: the node IPAM controller gives it, and pods cannot start without.

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use knarr_client::{Api, Client};
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};

/// Registers the node, if it is new, with empty labels of these names, and waits for its `spec.podCIDRs`.
pub async fn of_node(client: &Client, name: &str, labels: &[&str]) -> anyhow::Result<Vec<String>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = labels.iter().map(|&label| (label.to_owned(), String::new())).collect();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let node = Node { metadata, ..Node::default() };
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error).with_context(|| format!("registering node {name}")),
    }
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut changes = Box::pin(watcher(nodes, config).applied_objects());
    while let Some(node) = changes.next().await {
        let given =
            node.context("watching the node")?.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
        if !given.is_empty() {
            return Ok(given);
        }
    }
    bail!("the watch of node {name} ended before it had a pod range")
}
