//! Nodes: their place, what they have, and whom they keep away.

use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use super::Meta;
use crate::resource::{Amounts, WireResources};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
    taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    allocatable: WireResources,
    images: Vec<WireImage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireImage {
    names: Vec<Box<str>>,
    size_bytes: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireNode {
    metadata: Meta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Debug, Deserialize)]
#[serde(from = "WireNode")]
pub struct Node {
    pub metadata: Meta,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    pub allocatable: Amounts,
    /// Names and sizes in bytes of the images that are there, sorted by name.
    pub images: Vec<(Box<str>, i64)>,
}

impl Node {
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key).map(String::as_str)
    }

    /// The size of an image that is there.
    pub fn image_size(&self, name: &str) -> Option<i64> {
        let at = self.images.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(self.images[at].1)
    }
}

impl From<WireNode> for Node {
    fn from(node: WireNode) -> Self {
        let mut images: Vec<_> = node
            .status
            .images
            .into_iter()
            .flat_map(|image| image.names.into_iter().map(move |name| (name, image.size_bytes)))
            .collect();
        images.sort();
        images.dedup_by(|a, b| a.0 == b.0);
        Self {
            metadata: node.metadata,
            unschedulable: node.spec.unschedulable,
            taints: node.spec.taints,
            allocatable: Amounts::parse(&node.status.allocatable),
            images,
        }
    }
}

knarr_client::cached_by_metadata!(Node);
