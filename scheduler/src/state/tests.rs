use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node(name: &str) -> Arc<Node> {
    zoned(name, 0)
}

fn zoned(name: &str, zone: u8) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": name, "labels": {"zone": zone.to_string()}},
        "status": {"allocatable": {"cpu": "4", "pods": "10"}},
    });
    Arc::new(serde_json::from_value(node).expect("a node"))
}

fn pod(uid: &str, node: &str, cpu: &str, phase: &str) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": phase},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn used(state: &State, node: &str) -> (i64, usize) {
    let info = &state.nodes()[state.by_name[node]];
    (info.requested.milli_cpu, info.pods().len())
}

fn kinds(event: Option<Event>) -> Kinds {
    event.map(|event| event.kinds).unwrap_or_default()
}

#[test]
fn what_pods_use_follows_every_change() {
    let mut state = State::default();
    assert_eq!(state.node_added_or_updated(node("a")).kinds, Kinds::NODE_ADD);
    assert_eq!(kinds(state.pod_placed(pod("1", "a", "1", "Running"))), Kinds::POD_ADD);
    assert!(state.pod_placed(pod("1", "a", "2", "Running")).is_none());
    assert_eq!(used(&state, "a"), (2_000, 1));
    assert_eq!(kinds(state.pod_placed(pod("1", "a", "1", "Running"))), Kinds::POD_SCALE_DOWN);
    assert_eq!(kinds(state.pod_placed(pod("1", "a", "1", "Succeeded"))), Kinds::POD_DELETE);
    assert_eq!(used(&state, "a"), (0, 0));
    assert!(state.pod_removed("1").is_none());
}

#[test]
fn an_assumed_pod_counts_until_forgotten_but_not_once_confirmed() {
    let mut state = State::default();
    state.node_added_or_updated(node("a"));
    state.assume(pod("1", "", "1", "Pending"), "a");
    assert_eq!(used(&state, "a"), (1_000, 1));
    let before = state.revision();
    assert_eq!(kinds(state.pod_placed(pod("1", "a", "1", "Pending"))), Kinds::POD_ADD);
    assert_eq!((used(&state, "a"), state.revision()), ((1_000, 1), before));
    assert!(state.forget("1").is_none());
    assert_eq!(used(&state, "a"), (1_000, 1));
    state.assume(pod("2", "", "1", "Pending"), "a");
    assert_eq!(kinds(state.forget("2")), Kinds::POD_DELETE);
    assert_eq!(used(&state, "a"), (1_000, 1));
}

#[test]
fn pods_may_come_before_their_node_and_stay_after_it() {
    let mut state = State::default();
    state.pod_placed(pod("1", "b", "1", "Running"));
    assert!(state.node("b").is_none());
    state.node_added_or_updated(node("a"));
    state.node_added_or_updated(node("b"));
    assert_eq!(used(&state, "b"), (1_000, 1));
    state.node_deleted("b");
    state.refresh_order();
    assert_eq!((state.order().len(), used(&state, "b").1), (1, 1));
    state.pod_removed("1");
    assert!(!state.by_name.contains_key("b"));
    // The place of b is used again.
    state.node_added_or_updated(node("c"));
    assert_eq!(state.nodes().len(), 2);
}

#[test]
fn nodes_are_looked_at_zone_by_zone_in_turns() {
    let mut state = State::default();
    for (name, zone) in [("a", "1"), ("b", "1"), ("c", "1"), ("x", "2")] {
        let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}});
        state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
    }
    state.refresh_order();
    let names: Vec<_> = state.order().iter().map(|slot| &*state.nodes()[*slot].name).collect();
    assert_eq!(names, ["a", "x", "b", "c"]);
}

#[derive(Debug, Clone)]
enum Step {
    Node { name: u8, zone: u8 },
    NodeGone { name: u8 },
    Placed { uid: u8, node: u8, shape: u8 },
    Assume { uid: u8, node: u8, shape: u8 },
    Forget { uid: u8 },
    Gone { uid: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (node, uid, shape) = (0..4u8, 0..6u8, 0..4u8);
    prop_oneof![
        (node.clone(), 0..3u8).prop_map(|(name, zone)| Step::Node { name, zone }),
        node.clone().prop_map(|name| Step::NodeGone { name }),
        (uid.clone(), node.clone(), shape.clone()).prop_map(|(uid, node, shape)| Step::Placed {
            uid,
            node,
            shape
        }),
        (uid.clone(), node, shape).prop_map(|(uid, node, shape)| Step::Assume { uid, node, shape }),
        uid.clone().prop_map(|uid| Step::Forget { uid }),
        uid.prop_map(|uid| Step::Gone { uid }),
    ]
}

/// Pods of four shapes: with and without anti-affinity, claims, ports, and of two labels.
fn shaped(uid: u8, node: &str, shape: u8) -> Arc<Pod> {
    let anti = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "zone"}]}});
    let mut spec = json!({"nodeName": node, "containers": [{
        "resources": {"requests": {"cpu": shape, "example.com/x": shape}},
        "ports": [{"hostPort": u32::from(shape) + 80}],
    }]});
    if shape > 1 {
        spec["affinity"] = anti;
        spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    }
    let app = if shape.is_multiple_of(2) { "a" } else { "b" };
    let meta = json!({
        "name": uid.to_string(), "namespace": "default", "uid": uid.to_string(), "labels": {"app": app},
    });
    Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod"))
}

fn question() -> Question {
    let selector = knarr_api::selector::Selector::from_set([("app", "a")]);
    Question { groups: vec![Group { namespaces: None, selector }], without_leaving: true }
}

/// Everything a decision reads, by the names of nodes.
fn seen(state: &State) -> Vec<String> {
    let counts = state.count(&question());
    let domains = state.domains("zone");
    let mut seen: Vec<String> = state
        .nodes()
        .iter()
        .filter(|node| node.exists() || !node.pods().is_empty())
        .map(|node| {
            let mut ports: Vec<i32> = node.host_ports.iter().map(|port| port.port).collect();
            ports.sort_unstable();
            let count = counts.get(node.slot).copied().unwrap_or(0);
            let told = state.terms().entries().map(|entry| entry.nodes.get(&node.slot).copied().unwrap_or(0));
            format!(
                "{} {:?} {} {ports:?} {count} {} zone {:?} {}",
                node.name,
                (node.requested.milli_cpu, node.requested.scalar("example.com/x")),
                node.nonzero_memory,
                told.sum::<u32>(),
                node.label("zone"),
                domains.of(node.slot).is_some(),
            )
        })
        .collect();
    seen.sort();
    seen.push(format!("{}", state.is_claim_used("default", "c")));
    seen
}

/// The same cluster, made at once.
fn rebuilt(state: &State) -> State {
    let mut fresh = State::default();
    for node in state.nodes().iter().filter_map(NodeInfo::node) {
        fresh.node_added_or_updated(node.clone());
    }
    for placed in state.pods.values() {
        fresh.assume(placed.pod.clone(), &state.nodes[placed.slot].name);
    }
    fresh
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_kept_up_equals_what_is_made_anew(steps in proptest::collection::vec(step(), 1..40)) {
        let mut state = State::default();
        // Asked before anything happens, so that all of it must be followed.
        state.count(&question());
        state.domains("zone");
        for step in steps {
            match step {
                Step::Node { name, zone } => drop(state.node_added_or_updated(zoned(&name.to_string(), zone))),
                Step::NodeGone { name } => state.node_deleted(&name.to_string()),
                Step::Placed { uid, node, shape } => {
                    state.pod_placed(shaped(uid, &node.to_string(), shape));
                }
                Step::Assume { uid, node, shape } => state.assume(shaped(uid, "", shape), &node.to_string()),
                Step::Forget { uid } => drop(state.forget(&uid.to_string())),
                Step::Gone { uid } => drop(state.pod_removed(&uid.to_string())),
            }
            prop_assert_eq!(seen(&state), seen(&rebuilt(&state)));
        }
    }
}
