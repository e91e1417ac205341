use knarr_api::time::SeededRandom;
use serde_json::{Value, json};

use super::*;
use crate::config::ProfileConfig;
use crate::cycle::{Cycle, Unschedulable};

fn pod(name: &str, priority: i32, cpu: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"priority": priority, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
        "status": {"startTime": "2024-01-01T00:00:00Z"},
    })
}

fn decoded(pod: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// Nodes of four cores each, with these pods on them.
fn cluster(nodes: &[(&str, Vec<Value>)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, pods) in nodes {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}});
        cluster.state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
        for pod in pods {
            let mut pod = pod.clone();
            pod["spec"]["nodeName"] = (*name).into();
            cluster.state.pod_placed(decoded(pod));
        }
    }
    cluster
}

fn fail(pod: &Arc<Pod>, cluster: &mut Cluster) -> Unschedulable {
    let mut cycle = Cycle::new(Arc::new(SeededRandom::new(1)));
    cycle.decide(pod, &Profile::new(&ProfileConfig::default(), 0), cluster).expect_err("no room")
}

/// The node, and who leaves it.
fn made_room(pod: Value, cluster: &mut Cluster) -> String {
    let failed = fail(&decoded(pod), cluster);
    let Preemption::MakeRoom { node, victims } = failed.preemption else {
        return failed.message;
    };
    let names: Vec<&str> = victims.iter().map(|victim| &*victim.metadata.name).collect();
    format!("{node}: {}", names.join(" "))
}

#[test]
fn as_few_as_possible_leave_and_the_least_important_of_them() {
    let pods = vec![pod("low", 1, "1"), pod("mid", 2, "2"), pod("lower", 0, "1")];
    let mut cluster = cluster(&[("a", pods)]);
    assert_eq!(made_room(pod("p", 9, "1"), &mut cluster), "a: lower");
    assert_eq!(made_room(pod("p", 9, "2"), &mut cluster), "a: low lower");
    assert_eq!(made_room(pod("p", 9, "4"), &mut cluster), "a: mid low lower");
    assert_eq!(made_room(pod("p", 2, "2"), &mut cluster), "a: low lower");
}

#[test]
fn the_message_says_why_nobody_can_leave() {
    let mut cluster = cluster(&[("a", vec![pod("high", 9, "4")])]);
    assert_eq!(
        made_room(pod("p", 0, "1"), &mut cluster),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
    assert_eq!(
        made_room(pod("p", 10, "5"), &mut cluster),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
    let mut never = pod("p", 10, "1");
    never["spec"]["preemptionPolicy"] = "Never".into();
    assert_eq!(
        made_room(never, &mut cluster),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    );
}

#[test]
fn the_node_is_chosen_by_what_its_victims_are_worth() {
    let cheap = || vec![pod("a1", 1, "2"), pod("a2", 1, "2")];
    // The lowest of the highest priorities.
    let mut by_priority = cluster(&[("a", cheap()), ("b", vec![pod("b1", 2, "4")])]);
    assert_eq!(made_room(pod("p", 9, "4"), &mut by_priority), "a: a1 a2");
    // The smallest sum: one pod instead of two of the same priority.
    let mut by_sum = cluster(&[("a", cheap()), ("b", vec![pod("b1", 1, "4")])]);
    assert_eq!(made_room(pod("p", 9, "4"), &mut by_sum), "b: b1");
    // Those that were started last have done least.
    let mut late = pod("b1", 1, "4");
    late["status"]["startTime"] = "2024-02-01T00:00:00Z".into();
    let mut by_start = cluster(&[("a", vec![pod("a1", 1, "4")]), ("b", vec![late])]);
    assert_eq!(made_room(pod("p", 9, "4"), &mut by_start), "b: b1");
}

#[test]
fn what_was_tried_on_one_node_does_not_count_on_the_next() {
    // On each node the labels of the victim keep the pod away, or would, were the last trial not taken back.
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}},
    ]}});
    let mut cluster = Cluster::default();
    for (name, priorities) in [("a", [3, 20]), ("b", [4, 1]), ("c", [20, 1]), ("d", [2, 2])] {
        let node = json!({
            "metadata": {"name": name, "labels": {"zone": name}},
            "status": {"allocatable": {"cpu": "4", "pods": "9"}},
        });
        cluster.state.node_added_or_updated(Arc::new(serde_json::from_value(node).expect("a node")));
        for (number, priority) in priorities.into_iter().enumerate() {
            let mut pod = pod(&format!("{name}{number}"), priority, "1");
            pod["spec"]["nodeName"] = name.into();
            cluster.state.pod_placed(decoded(pod));
        }
    }
    let mut incoming = pod("p", 9, "1");
    incoming["spec"]["affinity"] = apart;
    for _ in 0..8 {
        assert_eq!(made_room(incoming.clone(), &mut cluster), "d: d0 d1");
    }
}

#[test]
fn those_that_a_budget_protects_leave_last() {
    let budget = |allowed: i32| {
        let budget = json!({
            "metadata": {"name": "b", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "kept"}}},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
        });
        Arc::new(serde_json::from_value(budget).expect("a budget"))
    };
    let mut cluster = cluster(&[("a", vec![pod("kept", 0, "2"), pod("free", 5, "2")])]);
    cluster.objects.budgets.set(budget(0));
    assert_eq!(made_room(pod("p", 9, "2"), &mut cluster), "a: free");
    cluster.objects.budgets.set(budget(1));
    assert_eq!(made_room(pod("p", 9, "2"), &mut cluster), "a: kept");
}

#[test]
fn nobody_else_leaves_while_victims_are_on_their_way() {
    let mut leaving = pod("victim", 0, "4");
    leaving["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
    leaving["status"]["conditions"] =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]);
    let mut cluster = cluster(&[("a", vec![leaving]), ("b", vec![pod("other", 0, "4")])]);
    let waiting = decoded(pod("p", 9, "4"));
    cluster.nominated.set(&waiting, "a");
    let failed = fail(&waiting, &mut cluster);
    assert_eq!(
        failed.preemption.message(),
        Some("not eligible due to a terminating pod on the nominated node.")
    );
    assert_eq!(failed.preemption.nomination(), None);
}
