//! The Node objects of simulated nodes.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_api::time::SharedClock;
use knarr_client::{Cached, Change, SharedInformer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Api, Condition, has_code, node_name, number_of};
use crate::node::conditions::{self, Health};

const NODES: &str = "/api/v1/nodes";

/// Pause before a status is sent again that was not taken.
const RETRY: Duration = Duration::from_secs(1);

/// 198.18.0.0/15, which is set aside for measurements: nobody is routed there.
const RANGE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Ranges of pods are this many bits long, as the numbers of nodes exceed what usual ranges hold.
const PREFIX: u32 = 28;

/// Makes the node, or makes the one that is there Ready.
pub async fn register(api: &Api, number: u32, clock: &SharedClock) -> Result<(), kube::Error> {
    let node = object(number, clock);
    match api.send(Method::POST, NODES, "application/json", &node).await {
        Err(error) if has_code(&error, 409) => say_ready(api, number, clock).await,
        outcome => outcome,
    }
}

/// As much of a node as tells whether it is believed to be Ready.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SimNode {
    metadata: Meta,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

knarr_client::cached_by_metadata!(SimNode {
    fn shrink(&mut self) {
        self.status.conditions.retain(Condition::is_ready);
    }
});

impl SimNode {
    fn is_believed(&self) -> bool {
        self.status.conditions.iter().any(Condition::holds)
    }
}

/// Says again that a node is Ready when somebody has said otherwise, as a kubelet does that was thought dead.
/// Goes on for ever.
pub async fn contradict(api: &Api, informer: &SharedInformer<SimNode>, nodes: u32, clock: &SharedClock) {
    let (sender, mut doubted) = mpsc::unbounded_channel();
    let _subscription = informer.subscribe(move |change| {
        let node = change.object();
        let is_gone = matches!(change, Change::Deleted { .. });
        if !is_gone
            && !node.is_believed()
            && let Some(number) = number_of(node.name(), nodes)
        {
            // Closed only when nobody listens any more.
            let _stopped = sender.send(number);
        }
    });
    while let Some(number) = doubted.recv().await {
        while let Err(error) = say_ready(api, number, clock).await {
            tracing::warn!(node = node_name(number), %error, "failed to update node status");
            if has_code(&error, 404) {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn say_ready(api: &Api, number: u32, clock: &SharedClock) -> Result<(), kube::Error> {
    let path = format!("{NODES}/{}/status", node_name(number));
    let status = json!({"status": object(number, clock)["status"]});
    api.send(Method::PATCH, &path, "application/strategic-merge-patch+json", &status).await
}

fn object(number: u32, clock: &SharedClock) -> Value {
    let name = node_name(number);
    let resources = json!({"cpu": "32", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let mut labels = json!({
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "type": "simulated",
    });
    labels["beta.kubernetes.io/os"] = labels["kubernetes.io/os"].clone();
    labels["beta.kubernetes.io/arch"] = labels["kubernetes.io/arch"].clone();
    let mut node = json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": conditions::all(&Health::default(), &[], &Time(clock.now())),
            "addresses": [{"type": "Hostname", "address": name}],
            "nodeInfo": {
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "simulated",
                "osImage": "simulated", "containerRuntimeVersion": "sim://", "kubeletVersion": "v1.37.0",
                "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
            },
        },
    });
    if let Some(range) = pod_range(number) {
        node["spec"] = json!({"podCIDR": range, "podCIDRs": [range]});
    }
    node
}

/// The node's own range of pods; `None` for nodes beyond those that the range holds, which get one from the
/// cluster's range like others.
fn pod_range(number: u32) -> Option<String> {
    let offset = number.checked_shl(32 - PREFIX).filter(|offset| *offset < 1 << 17)?;
    Some(format!("{}/{PREFIX}", Ipv4Addr::from(RANGE + offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_pods_follow_each_other_and_end_with_the_range() {
        assert_eq!(pod_range(0).as_deref(), Some("198.18.0.0/28"));
        assert_eq!(pod_range(17).as_deref(), Some("198.18.1.16/28"));
        assert_eq!(pod_range(8191).as_deref(), Some("198.19.255.240/28"));
        assert_eq!(pod_range(8192), None);
    }
}
