use knarr_api::time::SeededRandom;
use serde_json::{Value, json};

use super::*;
use crate::config::ProfileConfig;
use crate::plugins::testing::{labelled, pod};

fn cycle() -> Cycle {
    Cycle::new(Arc::new(SeededRandom::new(1)))
}

fn profile() -> Profile {
    Profile::new(&ProfileConfig::default(), 0)
}

fn cluster(nodes: impl IntoIterator<Item = (String, Value)>) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, allocatable) in nodes {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}});
        cluster.state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
    }
    cluster
}

fn asking(cpu: &str) -> Pod {
    pod(json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]}))
}

fn numbered(number: usize, cpu: &str) -> Arc<Pod> {
    let mut pod = asking(cpu);
    pod.metadata.uid = number.to_string().into();
    Arc::new(pod)
}

fn fails(pod: Pod, cluster: &mut Cluster) -> Unschedulable {
    cycle().decide(&Arc::new(pod), &profile(), cluster).expect_err("nothing fits")
}

#[test]
fn the_reasons_of_all_nodes_are_counted_and_sorted() {
    let none = json!({"cpu": "8", "pods": "0"});
    let small = json!({"cpu": "1", "pods": "9"});
    let nodes = [("a", small.clone()), ("b", none), ("c", small)].map(|(n, a)| (n.to_owned(), a));
    let failed = fails(asking("4"), &mut cluster(nodes));
    assert_eq!(
        failed.message,
        "0/3 nodes are available: 1 Too many pods, 2 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are available: \
         1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(failed.rejectors, ["NodeResourcesFit"]);
    let failed = fails(asking("1"), &mut Cluster::default());
    assert_eq!(failed.message, "no nodes available to schedule pods");
    assert!(failed.rejectors.is_empty());
}

#[test]
fn nodes_that_a_pods_own_names_leave_out_are_counted_too() {
    let each = json!({"cpu": "4", "pods": "9"});
    let nodes = ["a", "b", "c"].map(|name| (name.to_owned(), each.clone()));
    let by_name = |names: &[&str]| {
        let field = json!({"key": "metadata.name", "operator": "In", "values": names});
        let terms = json!([{"matchFields": [field]}]);
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        let spec = json!({
            "affinity": {"nodeAffinity": required},
            "containers": [{"resources": {"requests": {"cpu": "5"}}}],
        });
        pod(spec)
    };
    let failed = fails(by_name(&["b"]), &mut cluster(nodes.clone()));
    assert!(
        failed.message.starts_with(
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
        ),
        "{}",
        failed.message
    );
    let failed = fails(by_name(&["gone"]), &mut cluster(nodes));
    assert!(
        failed
            .message
            .starts_with("0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. "),
        "{}",
        failed.message
    );
}

#[test]
fn equal_nodes_all_get_pods_and_the_emptier_one_gets_the_next() {
    let each = json!({"cpu": "4", "memory": "4Gi", "pods": "9"});
    let mut cluster = cluster(["a", "b", "c"].map(|name| (name.to_owned(), each.clone())));
    let (mut cycle, profile) = (cycle(), profile());
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..3 {
        let pod = numbered(number, "1");
        let node = cycle.decide(&pod, &profile, &mut cluster).expect("fits");
        cluster.state.assume(pod, &node);
        seen.insert(node);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_batch_of_equal_pods_fills_nodes_as_single_decisions_would() {
    let sizes = [("a", "4"), ("b", "2"), ("c", "7")];
    let nodes = || sizes.map(|(name, cpu)| (name.to_owned(), json!({"cpu": cpu, "pods": "99"})));
    let run = |in_batches: bool| {
        let (mut cycle, profile, mut cluster) = (cycle(), profile(), cluster(nodes()));
        let mut placed = std::collections::BTreeMap::<String, usize>::new();
        let mut batched = false;
        for number in 0..13 {
            let pod = numbered(number, "1");
            let node = cycle.decide(&pod, &profile, &mut cluster).expect("fits");
            batched |= cycle.batch.is_some();
            if !in_batches {
                cycle.batch = None;
            }
            *placed.entry(node.to_string()).or_default() += 1;
            cluster.state.assume(pod, &node);
        }
        assert!(batched);
        let full = cycle.decide(&numbered(99, "1"), &profile, &mut cluster).expect_err("full");
        assert!(full.message.starts_with("0/3 nodes are available: 3 Insufficient cpu."), "{}", full.message);
        placed
    };
    let expected = sizes.map(|(name, cpu)| (name.to_owned(), cpu.parse().expect("a number"))).into();
    assert_eq!(run(true), expected);
    assert_eq!(run(false), expected);
}

#[test]
fn a_batch_ends_when_anything_else_changes() {
    let each = json!({"cpu": "4", "pods": "9"});
    let mut cluster = cluster(["a", "b"].map(|name| (name.to_owned(), each.clone())));
    let (mut cycle, profile) = (cycle(), profile());
    let first = numbered(0, "1");
    let node = cycle.decide(&first, &profile, &mut cluster).expect("fits");
    cluster.state.assume(first, &node);
    let serves = |cycle: &Cycle, pod: &Pod, cluster: &Cluster| {
        cycle.batch.as_ref().is_some_and(|batch| batch.serves(pod, cluster))
    };
    assert!(serves(&cycle, &numbered(1, "1"), &cluster));
    assert!(!serves(&cycle, &numbered(1, "2"), &cluster));
    assert!(!serves(&cycle, &labelled(json!({"app": "b"}), json!({})), &cluster));
    cluster.state.pod_removed("0");
    assert!(!serves(&cycle, &numbered(1, "1"), &cluster));
}

#[test]
fn a_large_cluster_is_looked_at_in_turns() {
    let each = json!({"cpu": "4", "pods": "9"});
    let mut cluster = cluster((0..1_000).map(|number| (format!("n{number}"), each.clone())));
    let mut cycle = cycle();
    assert_eq!(enough(0, 1_000), 420);
    cycle.decide(&numbered(1, "1"), &profile(), &mut cluster).expect("fits");
    assert_eq!(cycle.next_start, 420);
    assert_eq!((enough(0, 99), enough(0, 5_000), enough(0, 20_000)), (99, 500, 1_000));
    assert_eq!(enough(30, 5_000), 1_500);
}

#[test]
fn room_that_is_promised_to_a_pod_is_left_to_it() {
    let each = json!({"cpu": "4", "pods": "9"});
    let mut cluster = cluster([("a".to_owned(), each)]);
    let mut important = asking("3");
    important.priority = 5;
    important.metadata.uid = "important".into();
    let important = Arc::new(important);
    cluster.nominated.set(&important, "a");
    let (mut cycle, profile) = (cycle(), profile());
    assert!(cycle.decide(&numbered(1, "2"), &profile, &mut cluster).is_err());
    assert!(cycle.decide(&numbered(2, "1"), &profile, &mut cluster).is_ok());
    let node = cycle.decide(&important, &profile, &mut cluster).expect("its own room");
    assert_eq!(&*node, "a");
}
