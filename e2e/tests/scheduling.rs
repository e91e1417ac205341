//! Where pods go when there is no room: what the scheduler says, and who has to leave.

use knarr_e2e::{Cluster, Kubectl, eventually};
use serde_json::Value;

/// A pod that asks for so many millicores, of a class if any. Its finalizer keeps it to be looked at when it is over.
fn pod(name: &str, millicores: i64, class: Option<&str>) -> String {
    let class = class.map_or_else(String::new, |class| format!("  priorityClassName: {class}\n"));
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, finalizers: [example.com/hold]}}\nspec:\n{class}  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - {{name: hello, image: knarr.local/hello, resources: {{requests: {{cpu: {millicores}m}}}}}}\n"
    )
}

/// More than half of what the node has, so that two do not fit.
fn most_of_the_node(kubectl: &Kubectl) -> i64 {
    let nodes = kubectl.json(&["get", "nodes"]);
    let cpu = nodes["items"][0]["status"]["allocatable"]["cpu"].as_str().expect("cpu").to_owned();
    let millicores = match cpu.strip_suffix('m') {
        Some(number) => number.parse::<i64>().expect("millicores"),
        None => cpu.parse::<i64>().expect("cores") * 1000,
    };
    millicores * 6 / 10
}

fn events(kubectl: &Kubectl, pod: &str, reason: &str) -> Vec<Value> {
    let field = format!("--field-selector=involvedObject.name={pod},reason={reason}");
    kubectl.json(&["get", "events", &field])["items"].as_array().expect("events").clone()
}

fn release(kubectl: &Kubectl, pod: &str) {
    kubectl.ok(&["patch", "pod", pod, "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]);
}

#[test]
fn a_pod_that_does_not_fit_waits_with_upstreams_words_and_a_more_important_one_takes_its_place() {
    let cluster = Cluster::start("preemption");
    let kubectl = cluster.kubectl();
    kubectl.ok(&[
        "create",
        "priorityclass",
        "important",
        "--value=1000",
        "--preemption-policy=PreemptLowerPriority",
    ]);
    let size = most_of_the_node(&kubectl);
    kubectl.apply(&pod("first", size, None));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/first", "--timeout=60s"]);

    kubectl.apply(&pod("second", size, None));
    kubectl.ok(&["wait", "--for=condition=PodScheduled=false", "pod/second", "--timeout=60s"]);
    let expected = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes \
                    are available: 1 No preemption victims found for incoming pod.";
    let waiting = kubectl.json(&["get", "pod", "second"]);
    assert_eq!(waiting["status"]["conditions"][0]["message"], expected, "{waiting}");
    assert_eq!(waiting["status"]["conditions"][0]["reason"], "Unschedulable", "{waiting}");
    let failed = eventually("the event says why", || events(&kubectl, "second", "FailedScheduling").pop());
    assert_eq!(failed["message"], expected);
    release(&kubectl, "second");
    kubectl.ok(&["delete", "pod", "second", "--now"]);

    kubectl.apply(&pod("third", size, Some("important")));
    let victim = eventually("the first pod has to leave", || {
        let victim = kubectl.json(&["get", "pod", "first"]);
        let conditions = victim["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|condition| condition["type"] == "DisruptionTarget")
    });
    assert_eq!(victim["reason"], "PreemptionByScheduler", "{victim}");
    assert_eq!(victim["message"], "default-scheduler: preempting to accommodate a higher priority pod");
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/third", "--timeout=60s"]);
    let third = kubectl.json(&["get", "pod", "third"]);
    let (uid, node) = (&third["metadata"]["uid"], &third["spec"]["nodeName"]);
    let preempted = eventually("the victim's event", || events(&kubectl, "first", "Preempted").pop());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    assert_eq!(preempted["message"], format!("Preempted by pod {} on node {}", text(uid), text(node)));
    release(&kubectl, "first");
    kubectl.ok(&["wait", "--for=delete", "pod/first", "--timeout=60s"]);
}
