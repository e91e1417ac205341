//! The server dies, and nobody who uses the cluster has to care.

use std::process::Command;
use std::time::Duration;

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

/// Kills the server, and does not wait until it is gone: the commands that follow do that by themselves.
fn kill(cluster: &Cluster) {
    run(Command::new("kill").args(["-9", &cluster.pid().to_string()])).ok();
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
    // A container runs before its program listens.
    eventually("the pod answers", || fetch(&url));
    kubectl.ok(&["create", "configmap", "acknowledged", "--from-literal=a=b"]);

    kill(&cluster);
    assert!(fetch(&url).expect("the pod goes on").contains("Hello from knarr"));

    cluster.up().ok();
    assert_eq!(kubectl.json(&["get", "configmap", "acknowledged"])["data"]["a"], "b");
    assert_eq!(containers(&cluster), before);
    kubectl.ok(&["scale", "deployment/hello", "--replicas=3"]);
    kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    assert_eq!(containers(&cluster).len(), 3);
}

#[test]
fn pods_that_were_stopped_with_the_cluster_start_again_and_count_it_once() {
    let cluster = Cluster::start("stopped");
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    // One container takes its time to end, so that the other's end is seen long before the node stops.
    let container = |name: &str, at_the_end: &str| {
        let script = format!("trap '{at_the_end}' TERM; while :; do sleep 1 & wait; done");
        serde_json::json!({
            "name": name,
            "image": "busybox:1.36",
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
        })
    };
    let containers = [container("quick", "exit"), container("slow", "sleep 2; exit")];
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stopped"},
        "spec": {"containers": containers},
    });
    kubectl.apply(&pod.to_string());
    for restarts in 1..=2 {
        kubectl.ok(&["wait", "pod/stopped", "--for=condition=Ready", "--timeout=60s"]);
        cluster.knarr(&["down", "--pods"]).ok();
        cluster.up().ok();
        let counted = format!("--for=jsonpath={{.status.containerStatuses[0].restartCount}}={restarts}");
        kubectl.ok(&["wait", "pod/stopped", &counted, "--timeout=60s"]);
        kubectl.ok(&[
            "wait",
            "pod/stopped",
            "--for=jsonpath={.status.containerStatuses[0].ready}=true",
            "--timeout=60s",
        ]);
        kubectl.ok(&["wait", "pod/stopped", "--for=condition=Ready", "--timeout=60s"]);
        let statuses = &kubectl.json(&["get", "pod/stopped"])["status"]["containerStatuses"];
        for status in statuses.as_array().expect("of both") {
            assert_eq!(status["restartCount"], restarts, "{status}");
        }
    }
}

/// Rounds of the test below, and by how much later the server dies in each.
const ROUNDS: u32 = 10;
/// Directories with one entry for each container, sandbox or pod.
const DIRECTORIES: [&str; 4] =
    ["runtime/runtime/containers", "runtime/runtime/sandboxes", "runtime/run/sandboxes", "kubelet/pods"];
const STEP: Duration = Duration::from_millis(60);

/// What a cluster has on this machine that must not pile up.
#[derive(Debug, PartialEq)]
struct Holdings {
    mounts: Vec<String>,
    cgroups: Vec<String>,
    shims: usize,
    /// To pods' addresses, through the links that pods have.
    routes: Vec<String>,
    directories: Vec<(String, usize)>,
}

impl Holdings {
    fn of(cluster: &Cluster) -> Self {
        let data = cluster.data_dir();
        let here = data.display().to_string();
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mounts = run(Command::new("findmnt").args(["-rno", "TARGET"])).ok();
        let name = format!("*{}*", cluster.name);
        let cgroups = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", &name])).ok();
        let processes = run(Command::new("ps").args(["-eo", "args"])).ok();
        let routes = run(Command::new("ip").args(["-4", "route"])).ok();
        let nodes = cluster.kubectl().json(&["get", "nodes"]);
        let range = nodes["items"][0]["spec"]["podCIDR"].as_str().expect("a range");
        let range = range.rsplit_once('.').expect("an address").0.to_owned() + ".";
        let of_pods = |route: &String| route.starts_with(&range) && route.contains(" dev kn");
        let count = |part: &str| {
            let entries = std::fs::read_dir(data.join(part)).map_or(0, Iterator::count);
            (part.to_owned(), entries)
        };
        let mut held = Self {
            mounts: lines(mounts).into_iter().filter(|mount| mount.starts_with(&here)).collect(),
            cgroups: lines(cgroups),
            shims: processes.lines().filter(|line| line.contains("--dir") && line.contains(&here)).count(),
            routes: lines(routes).into_iter().filter(of_pods).collect(),
            directories: DIRECTORIES.map(count).into(),
        };
        held.mounts.sort();
        held.cgroups.sort();
        held.routes.sort();
        held
    }
}

#[test]
fn killed_at_any_moment_of_pods_starts_and_ends_it_leaks_nothing_and_restarts_nothing() {
    let cluster = Cluster::start("kills");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["create", "deployment", "steady", "--image=knarr.local/hello"]);
    kubectl.ok(&["rollout", "status", "deployment/steady", "--timeout=120s"]);
    let (steady, before) = (containers(&cluster), Holdings::of(&cluster));
    for round in 0..ROUNDS {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: passing-{round}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers: [{{name: c, image: knarr.local/hello}}]\n"
        );
        kubectl.apply(&pod);
        if round > 0 {
            // One ends while the next begins.
            kubectl.ok(&["delete", "pod", &format!("passing-{}", round - 1), "--wait=false"]);
        }
        // The moment is what this test varies: there is no event to wait for.
        std::thread::park_timeout(STEP * round);
        kill(&cluster);
        cluster.up().ok();
        let name = format!("pod/passing-{round}");
        kubectl.ok(&["wait", &name, "--for=condition=Ready", "--timeout=60s"]);
        let status = &kubectl.json(&["get", &name])["status"]["containerStatuses"][0];
        assert_eq!(status["restartCount"], 0, "round {round}: {status}");
    }
    kubectl.ok(&["delete", "pod", &format!("passing-{}", ROUNDS - 1)]);
    assert_eq!(containers(&cluster), steady, "the steady pod went on through all of it");
    let mut now = Holdings::of(&cluster);
    // What the API no longer has is removed by the node soon after.
    for _ in 0..600 {
        if now == before {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(100));
        now = Holdings::of(&cluster);
    }
    assert_eq!(now, before);
}

#[test]
fn a_snapshot_taken_while_running_brings_a_stopped_cluster_back() {
    let cluster = Cluster::start("snapshot");
    let kubectl = cluster.kubectl();
    kubectl.ok(&["create", "configmap", "kept", "--from-literal=a=b"]);
    kubectl.ok(&["create", "secret", "generic", "kept", "--from-literal=password=swordfish"]);
    let file = cluster.data_dir().with_file_name("monday.snapshot");
    let path = file.display().to_string();
    cluster.knarr(&["snapshot", "save", &path]).ok();
    let again = cluster.knarr(&["snapshot", "save", &path]).err();
    assert!(again.contains("exists"), "a snapshot is never overwritten: {again}");
    let info = || run(Command::new(knarr_e2e::binary()).args(["snapshot", "info", &path])).ok();
    let shown = info();
    assert!(
        ["revision: ", "keys: ", "bytes: ", "sha256: "].iter().all(|line| shown.contains(line)),
        "{shown}"
    );
    let bytes = std::fs::read(&file).expect("a snapshot");
    assert!(!bytes.windows(9).any(|window| window == b"swordfish"), "Secrets stay encrypted");

    kubectl.ok(&["delete", "configmap", "kept"]);
    kubectl.ok(&["create", "configmap", "later", "--from-literal=a=b"]);
    let running = cluster.knarr(&["snapshot", "restore", &path]).err();
    assert!(running.contains("runs: stop it with"), "{running}");
    cluster.knarr(&["down"]).ok();
    cluster.knarr(&["snapshot", "restore", &path]).ok();
    cluster.up().ok();
    assert_eq!(kubectl.json(&["get", "configmap", "kept"])["data"]["a"], "b");
    assert_eq!(kubectl.json(&["get", "secret", "kept"])["data"]["password"], "c3dvcmRmaXNo");
    assert!(kubectl.run(&["get", "configmap", "later"]).err().contains("not found"));
    assert_eq!(info(), shown, "restoring leaves the snapshot as it is");
}
