//! The server dies, and nobody who uses the cluster has to care.

use std::process::Command;

use knarr_e2e::{Cluster, eventually, fetch, run};
use serde_json::Value;

/// What must be the same after a restart: container ids, restart counts and start times.
fn containers(cluster: &Cluster) -> Vec<Value> {
    let pods = cluster.kubectl().json(&["get", "pods", "--sort-by=.metadata.name"]);
    let all = pods["items"].as_array().expect("pods").iter();
    all.map(|pod| {
        let status = &pod["status"]["containerStatuses"][0];
        serde_json::json!([
            pod["metadata"]["name"],
            status["containerID"],
            status["restartCount"],
            status["state"]["running"]["startedAt"]
        ])
    })
    .collect()
}

#[test]
fn pods_go_on_when_the_server_is_killed_and_are_found_again() {
    let cluster = Cluster::start("kill");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["create", "deployment", "hello", "--image=knarr.local/hello", "--replicas=2"]);
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    let before = containers(&cluster);
    let pods = kubectl.json(&["get", "pods"]);
    let url = format!("http://{}:8080/", pods["items"][0]["status"]["podIP"].as_str().expect("an address"));
    fetch(&url).expect("the pod answers");
    kubectl.ok(&["create", "configmap", "acknowledged", "--from-literal=a=b"]);

    let pid = cluster.pid().to_string();
    run(Command::new("kill").args(["-9", &pid])).ok();
    eventually("the server is gone", || cluster.knarr(&["status"]).stdout.contains("stopped").then_some(()));
    assert!(fetch(&url).expect("the pod goes on").contains("Hello from knarr"));

    cluster.up().ok();
    assert_eq!(kubectl.json(&["get", "configmap", "acknowledged"])["data"]["a"], "b");
    assert_eq!(containers(&cluster), before);
    kubectl.ok(&["scale", "deployment/hello", "--replicas=3"]);
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    assert_eq!(containers(&cluster).len(), 3);
}
