//! What every node of a cluster must know, where nodes that join can read it: a ConfigMap in kube-system.

use std::net::IpAddr;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use knarr_client::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::manifests;
use super::settings::NodeSettings;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "knarr-node-config";
const KEY: &str = "config";

/// Names are those of the kubelet's and kube-proxy's flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    pub cluster_name: String,
    /// The ranges of all pods of the cluster.
    pub cluster_cidr: Vec<String>,
    pub service_cluster_ip_range: Vec<String>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// The bit of the packet mark that means masquerading, as a mask.
    pub masquerade_mark: u32,
}

impl Facts {
    pub fn of(node: &NodeSettings) -> Self {
        Self {
            cluster_name: node.cluster.clone(),
            cluster_cidr: node.cluster_cidrs.iter().map(ToString::to_string).collect(),
            service_cluster_ip_range: node.service_cidrs.iter().map(ToString::to_string).collect(),
            cluster_dns: node.cluster_dns.clone(),
            cluster_domain: node.cluster_domain.clone(),
            masquerade_mark: node.masquerade_mark,
        }
    }

    pub async fn publish(&self, client: &Client) -> anyhow::Result<()> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "data": {KEY: serde_json::to_string_pretty(self)?},
        });
        manifests::apply_object(client, &object).await
    }

    pub async fn read(client: &Client) -> anyhow::Result<Self> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let map = maps.get(NAME).await.with_context(|| format!("reading ConfigMap {NAMESPACE}/{NAME}"))?;
        let text = map.data.unwrap_or_default().remove(KEY);
        let text = text.with_context(|| format!("ConfigMap {NAMESPACE}/{NAME} has no {KEY}"))?;
        serde_json::from_str(&text).with_context(|| format!("ConfigMap {NAMESPACE}/{NAME}"))
    }
}
