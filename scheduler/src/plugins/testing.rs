//! Pods and nodes for the plugins' tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::framework::{Plugin, PreFilter, Reason};
use crate::object::Pod;
use crate::state::NodeInfo;

/// A pod of this spec, with one empty container unless it has some.
pub fn pod(spec: Value) -> Pod {
    labelled(json!({}), spec)
}

pub fn labelled(labels: Value, mut spec: Value) -> Pod {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    let meta = json!({"name": "p", "namespace": "default", "uid": "u", "labels": labels});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod")
}

/// A cluster of nodes with these names and labels, and pods on them.
pub fn cluster(nodes: &[(&str, Value)], pods: impl IntoIterator<Item = (&'static str, Pod)>) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, labels) in nodes {
        let allocatable = json!({"cpu": "64", "memory": "64Gi", "pods": "110"});
        let node = json!({
            "metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable},
        });
        cluster.state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
    }
    for (number, (node, mut pod)) in pods.into_iter().enumerate() {
        pod.metadata.uid = number.to_string().into();
        pod.node_name = node.into();
        cluster.state.pod_placed(Arc::new(pod));
    }
    cluster.state.refresh_order();
    cluster
}

/// The node `a`, made of these parts and these pods on it.
pub fn with_node<T>(node: Value, pods: Vec<Pod>, look: impl FnOnce(&(Cluster, usize)) -> T) -> T {
    let mut cluster = Cluster::default();
    let mut whole = json!({"metadata": {"name": "a"}});
    for (part, value) in node.as_object().expect("parts of a node") {
        match (whole.get_mut(part), value) {
            (Some(Value::Object(into)), Value::Object(from)) => into.extend(from.clone()),
            _ => whole[part] = value.clone(),
        }
    }
    cluster.state.node_added_or_updated(Arc::new(serde_json::from_value(whole).expect("a node")));
    for (number, mut pod) in pods.into_iter().enumerate() {
        pod.metadata.uid = number.to_string().into();
        cluster.state.assume(Arc::new(pod), "a");
    }
    cluster.state.refresh_order();
    look(&(cluster, 0))
}

/// A plugin's reasons against the node.
pub fn judge(plugin: &dyn Plugin, pod: &Pod, (cluster, slot): &(Cluster, usize)) -> Vec<Reason> {
    reasons(plugin, pod, cluster, &cluster.state.nodes()[*slot])
}

pub fn reasons(plugin: &dyn Plugin, pod: &Pod, cluster: &Cluster, node: &NodeInfo) -> Vec<Reason> {
    let verdict = match plugin.pre_filter(pod, cluster) {
        PreFilter::Skip => Ok(()),
        PreFilter::Rejected(rejection) => Err(rejection),
        PreFilter::Filter(filter) | PreFilter::Only(_, filter) => filter.filter(node),
    };
    verdict.err().map(|rejection| rejection.reasons().cloned().collect()).unwrap_or_default()
}

/// The names of the nodes that a plugin lets the pod go to.
pub fn allowed(plugin: &dyn Plugin, pod: &Pod, cluster: &Cluster) -> String {
    let nodes = cluster.state.nodes().iter().filter(|node| reasons(plugin, pod, cluster, node).is_empty());
    nodes.map(|node| &*node.name).collect::<Vec<_>>().join(" ")
}

/// A plugin's score of the node, not normalized; `None` if it has no preference.
pub fn score(plugin: &dyn Plugin, pod: &Pod, (cluster, slot): &(Cluster, usize)) -> Option<i64> {
    let node = &cluster.state.nodes()[*slot];
    plugin.pre_score(pod, cluster, &[node]).map(|score| score.score(node))
}

/// A plugin's normalized scores of all nodes.
pub fn scores(plugin: &dyn Plugin, pod: &Pod, cluster: &Cluster) -> Option<Vec<i64>> {
    let nodes: Vec<&NodeInfo> = cluster.state.nodes().iter().collect();
    let score = plugin.pre_score(pod, cluster, &nodes)?;
    let mut scores = nodes.iter().map(|node| score.score(node)).collect::<Vec<_>>();
    score.normalize(&nodes, &mut scores);
    Some(scores)
}
