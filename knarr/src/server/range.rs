//! The node's part of the pod range: the node IPAM controller gives it, and pods cannot start without.

use std::net::IpAddr;

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeStatus};
use knarr_client::Client;
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};

/// Registers the node, if it is new, with empty labels of these names, and waits for its `spec.podCIDRs`. Its
/// addresses are known from the start, because its serving certificate may only name those.
pub async fn of_node(
    client: &Client,
    name: &str,
    labels: &[&str],
    addresses: &[IpAddr],
) -> anyhow::Result<Vec<String>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = labels.iter().map(|&label| (label.to_owned(), String::new())).collect();
    let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    let of_kind = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let internal = addresses.iter().map(|address| of_kind("InternalIP", address.to_string()));
    let addresses = internal.chain([of_kind("Hostname", name.to_owned())]).collect();
    let status = NodeStatus { addresses: Some(addresses), ..NodeStatus::default() };
    let node = Node { metadata, status: Some(status), ..Node::default() };
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
