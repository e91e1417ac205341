//! The nodes and pods that the workloads are made of.

use serde_json::{Value, json};

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";
/// The one node that workloads with large nodes have.
const LARGE: &str = "scheduler-perf-node";

pub type Node = fn(usize) -> Value;
pub type Pod = fn() -> Value;

fn node_with(name: &str, zone: &str, pods: &str) -> Value {
    let resources = json!({"cpu": "4", "memory": "32Gi", "pods": pods});
    json!({
        "metadata": {"name": name, "labels": {HOST: name, ZONE: zone}},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

pub fn one_zone(number: usize) -> Value {
    node_with(&format!("node-{number}"), "zone1", "110")
}

pub fn three_zones(number: usize) -> Value {
    node_with(&format!("node-{number}"), ["moon-1", "moon-2", "moon-3"][number % 3], "110")
}

pub fn large(_: usize) -> Value {
    node_with(LARGE, "zone1", "90000")
}

/// Whether pods of this kind get a node.
pub fn can_be_placed(pod: Pod) -> bool {
    let pod = pod();
    pod["spec"]["schedulingGates"].is_null()
        && pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] != "9"
}

fn asking(cpu: &str, labels: Value, more: Value) -> Value {
    let resources = json!({"cpu": cpu, "memory": "500Mi"});
    let container = json!({
        "name": "pause",
        "image": "registry.k8s.io/pause:3.10.2",
        "ports": [{"containerPort": 80}],
        "resources": {"requests": resources, "limits": resources},
    });
    let mut pod = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = pod["spec"].as_object_mut().expect("an object");
    spec.extend(more.as_object().expect("an object").clone());
    pod
}

pub fn basic() -> Value {
    asking("100m", json!({}), json!({}))
}

/// Asks for nothing, and goes at once when it is deleted.
pub fn light() -> Value {
    let container = json!({"name": "pause", "image": "registry.k8s.io/pause:3.10.2"});
    json!({"metadata": {}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}})
}

pub fn gated() -> Value {
    let mut pod = light();
    pod["spec"]["schedulingGates"] = json!([{"name": "test.k8s.io/hold"}]);
    pod
}

fn on_nodes(term: Value) -> Value {
    let required = json!({"nodeSelectorTerms": [term]});
    json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
}

pub fn daemon() -> Value {
    let mut pod = light();
    let field = json!({"key": "metadata.name", "operator": "In", "values": [LARGE]});
    pod["spec"]["affinity"] = on_nodes(json!({"matchFields": [field]}))["affinity"].take();
    pod
}

pub fn node_affinity() -> Value {
    let label = json!({"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]});
    asking("100m", json!({}), on_nodes(json!({"matchExpressions": [label]})))
}

fn spread_with(when_unsatisfiable: &str) -> Value {
    let constraint = json!({
        "maxSkew": 5,
        "topologyKey": ZONE,
        "whenUnsatisfiable": when_unsatisfiable,
        "labelSelector": {"matchLabels": {"color": "blue"}},
    });
    asking("100m", json!({"color": "blue"}), json!({"topologySpreadConstraints": [constraint]}))
}

pub fn spread() -> Value {
    spread_with("DoNotSchedule")
}

pub fn soft_spread() -> Value {
    spread_with("ScheduleAnyway")
}

fn near(kind: &str, color: &str, key: &str) -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key});
    let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    asking("100m", json!({"color": color}), json!({"affinity": {kind: required}}))
}

pub fn affinity() -> Value {
    near("podAffinity", "blue", ZONE)
}

pub fn anti_affinity() -> Value {
    near("podAntiAffinity", "green", HOST)
}

pub fn low_priority() -> Value {
    asking("900m", json!({}), json!({"terminationGracePeriodSeconds": 0}))
}

pub fn high_priority() -> Value {
    asking("3000m", json!({}), json!({"priority": 10}))
}

/// More than any node has.
pub fn too_large() -> Value {
    asking("9", json!({}), json!({"priority": 10}))
}
