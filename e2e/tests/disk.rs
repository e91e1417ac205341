//! A disk that is full or cannot be written to costs requests, never data.

use knarr_e2e::Cluster;

#[test]
fn a_read_only_data_directory_is_explained() {
    let cluster = Cluster::prepare_on_disk("read-only", 16);
    cluster.disk().read_only();
    let complaint = cluster.up().err();
    let directory = cluster.data_dir().display().to_string();
    assert!(complaint.contains(&directory) && complaint.contains("Read-only file system"), "{complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let cluster = Cluster::prepare_on_disk("full", 400);
    cluster.up().ok();
    let kubectl = cluster.kubectl();
    kubectl.ok(&["create", "configmap", "before", "--from-literal=a=1"]);
    let filling = cluster.disk().fill();
    let value = format!("--from-literal=v={}", "x".repeat(60_000));
    let mut acknowledged = Vec::new();
    let refused = (0..2000).find_map(|index| {
        let name = format!("c{index}");
        let run = kubectl.run(&["create", "configmap", &name, &value]);
        if run.success {
            acknowledged.push(name);
            return None;
        }
        Some(run.stderr)
    });
    let refused = refused.expect("a full disk refuses writes at last");
    assert!(refused.contains("the disk is full"), "{refused}");
    assert_eq!(kubectl.ok(&["get", "configmap", "before", "-o", "jsonpath={.data.a}"]), "1");
    drop(filling);
    let after = || kubectl.run(&["create", "configmap", "after"]).success.then_some(());
    knarr_e2e::eventually("writes go on once there is space", after);

    // What was acknowledged is there after a restart, too.
    cluster.knarr(&["down"]).ok();
    cluster.up().ok();
    let names = kubectl.ok(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"]);
    let names: Vec<&str> = names.split(' ').collect();
    for name in acknowledged.iter().map(String::as_str).chain(["before", "after"]) {
        assert!(names.contains(&name), "{name} is lost");
    }
}
