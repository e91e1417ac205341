//! Waiting until the node is Ready, by watching it.

use anyhow::{Context, bail};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use knarr_client::Client;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};

/// How long a node may take before the start counts as failed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

pub async fn wait(client: &Client, node: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let mut changes = Box::pin(watcher(nodes, config).applied_objects());
    let mut last = "it has not registered".to_owned();
    let watching = async {
        while let Some(change) = changes.next().await {
            match state(&change.context("watching the node")?) {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
        }
        bail!("the watch of the node ended")
    };
    match tokio::time::timeout(PATIENCE, watching).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("node {node} is not ready after {} s: {last}", PATIENCE.as_secs()),
    }
}

/// `Err` says why the node is not ready.
pub fn state(node: &Node) -> Result<(), String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let Some(ready) = conditions.iter().find(|condition| condition.type_ == "Ready") else {
        return Err("it reports no condition yet".to_owned());
    };
    if ready.status == "True" {
        return Ok(());
    }
    Err(ready.message.clone().unwrap_or_default())
}
