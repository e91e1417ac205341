//! `metrics.k8s.io`: what nodes and pods use, asked of the kubelets when somebody asks here.

mod scrape;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use knarr_api::status::Status;
use serde_json::{Value, json};

use crate::catalogue::{Computed, Extensions};
use crate::context::RequestContext;
use crate::object;
use crate::objects::{Objects, Resource};
use crate::stream::Streams;
use scrape::{NodeUse, Scraper};

const GROUP: &str = "metrics.k8s.io";

/// Adds the group's resources.
pub fn extend(extensions: &mut Extensions, streams: &Streams, objects: &Arc<dyn Objects>) {
    let source = Arc::new(Source { scraper: Scraper::new(streams.clone()), objects: objects.clone() });
    extensions.compute(GROUP, "nodes", Arc::new(Nodes(source.clone())));
    extensions.compute(GROUP, "pods", Arc::new(Pods(source)));
}

struct Source {
    scraper: Scraper,
    objects: Arc<dyn Objects>,
}

impl Source {
    fn all(&self, plural: &'static str, namespace: Option<&str>) -> Vec<Value> {
        let all = self.objects.list(Resource::core(plural), namespace);
        all.iter().filter_map(|stored| serde_json::from_slice(&stored.json).ok()).collect()
    }

    /// The figures of several nodes; one that does not answer has none.
    async fn of_nodes<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> BTreeMap<&'a str, NodeUse> {
        let asked = nodes.into_iter().map(async |node| {
            let found = self.scraper.node(node).await;
            found
                .map_err(|why| tracing::warn!(node, why, "the node's figures cannot be read"))
                .ok()
                .map(|f| (node, f))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// What every answer has: name, labels and when.
fn metadata(of: &Value, now: &str) -> Value {
    let mut metadata = json!({"name": object::name(of), "creationTimestamp": now});
    if !object::namespace(of).is_empty() {
        metadata["namespace"] = object::namespace(of).into();
    }
    if let Some(labels) = of.pointer("/metadata/labels") {
        metadata["labels"] = labels.clone();
    }
    metadata
}

fn wanted(object: &Value, name: Option<&str>) -> bool {
    name.is_none_or(|name| object::name(object) == name)
}

struct Nodes(Arc<Source>);

#[async_trait]
impl Computed for Nodes {
    async fn compute(&self, cx: &RequestContext, name: Option<&str>) -> Result<Vec<Value>, Status> {
        let mut nodes = self.0.all("nodes", None);
        nodes.retain(|node| wanted(node, name));
        let figures = self.0.of_nodes(nodes.iter().map(object::name)).await;
        let now = object::timestamp(cx.registry.clock.now());
        let shown = nodes.iter().filter_map(|node| {
            let usage = figures.get(object::name(node))?.node.as_ref()?;
            Some(json!({"metadata": metadata(node, &now), "timestamp": usage.timestamp(&now),
                "window": usage.window(), "usage": usage.amounts()}))
        });
        Ok(shown.collect())
    }
}

struct Pods(Arc<Source>);

#[async_trait]
impl Computed for Pods {
    async fn compute(&self, cx: &RequestContext, name: Option<&str>) -> Result<Vec<Value>, Status> {
        let namespace = Some(cx.namespace()).filter(|namespace| !namespace.is_empty());
        let mut pods = self.0.all("pods", namespace);
        pods.retain(|pod| wanted(pod, name));
        let node = |pod: &Value| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
        let nodes: BTreeSet<String> = pods.iter().map(node).filter(|node| !node.is_empty()).collect();
        let figures = self.0.of_nodes(nodes.iter().map(String::as_str)).await;
        let now = object::timestamp(cx.registry.clock.now());
        let shown = pods.iter().filter_map(|pod| {
            let containers = figures.get(node(pod).as_str())?.pods.get(object::uid(pod))?;
            let first = containers.values().next()?;
            let each = containers.iter().map(|(name, usage)| json!({"name": name, "usage": usage.amounts()}));
            Some(json!({"metadata": metadata(pod, &now), "timestamp": first.timestamp(&now),
                "window": first.window(), "containers": each.collect::<Vec<_>>()}))
        });
        Ok(shown.collect())
    }
}
