//! The life of a cluster: up, down, delete, and what is left of it.

use std::process::Command;

use knarr_e2e::{Cluster, binary, run};

#[test]
fn up_is_idempotent_and_delete_leaves_nothing() {
    let cluster = Cluster::start("life");
    cluster.import("busybox");
    let kubectl = cluster.kubectl();
    kubectl.ok(&[
        "run",
        "sleeper",
        "--image=busybox:1.36",
        "--image-pull-policy=IfNotPresent",
        "--",
        "sleep",
        "1000",
    ]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/sleeper", "--timeout=120s"]);
    assert!(cluster.up().ok().contains("runs already"));
    let status = cluster.knarr(&["status"]).ok();
    assert!(status.contains("state:       ready"), "{status}");
    assert!(status.contains("pods:        1"), "{status}");

    let stopped = cluster.knarr(&["down"]).ok();
    assert!(stopped.contains("its containers go on"), "{stopped}");
    assert_eq!(cluster.knarr(&["status"]).code, Some(3));
    assert!(mounts(&cluster) > 0, "containers do not go on");
    cluster.up().ok();
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s"]);

    cluster.knarr(&["delete"]).ok();
    assert!(!cluster.data_dir().exists(), "the data directory is left");
    assert_eq!(mounts(&cluster), 0, "mounts are left");
    assert_eq!(processes(&cluster), Vec::<String>::new());
    assert_eq!(in_the_kernel(&cluster), [""; 2]);
    assert!(cluster.knarr(&["status"]).err().contains("there is no cluster"));
}

#[test]
fn a_cluster_whose_directory_somebody_removed_is_deleted_all_the_same() {
    let cluster = Cluster::start("removed");
    cluster.knarr(&["down"]).ok();
    std::fs::remove_dir_all(cluster.data_dir()).expect("nothing is mounted there");
    assert!(in_the_kernel(&cluster).iter().all(|things| !things.is_empty()), "nothing to be deleted");
    cluster.knarr(&["delete"]).ok();
    assert_eq!(in_the_kernel(&cluster), [""; 2]);
    assert!(!cluster.data_dir().exists(), "the data directory is there again");
}

/// Cgroups and nftables tables of the cluster.
fn in_the_kernel(cluster: &Cluster) -> [String; 2] {
    let name = format!("knarr-{}", cluster.name);
    let cgroups = run(Command::new("find").args(["/sys/fs/cgroup", "-name", &name])).stdout;
    let tables = run(Command::new("nft").args(["list", "tables"])).ok();
    let own: Vec<&str> = tables.lines().filter(|line| line.contains(&cluster.name)).collect();
    [cgroups, own.join("\n")]
}

/// Mounts of the cluster that this machine shows.
fn mounts(cluster: &Cluster) -> usize {
    let directory = cluster.data_dir().display().to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    table.lines().filter(|line| line.contains(&directory)).count()
}

/// Command lines of processes that name the cluster's directory.
fn processes(cluster: &Cluster) -> Vec<String> {
    let directory = cluster.data_dir().display().to_string();
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(&directory)).collect()
}

#[test]
fn a_busy_port_and_a_second_server_are_explained() {
    let cluster = Cluster::prepare("busy");
    let taken = std::net::TcpListener::bind(("0.0.0.0", cluster.api_port)).expect("a free port");
    let complaint = cluster.up().err();
    let expected =
        format!("port {} is in use by pid {}: pass --api-port", cluster.api_port, std::process::id());
    assert!(complaint.contains(&expected), "{complaint}");
    drop(taken);
    cluster.up().ok();
    let dir = cluster.data_dir().display().to_string();
    let second = cluster.knarr(&["server", "--data-dir", &dir]).err();
    assert!(second.contains(&format!("in use by another server (pid {})", cluster.pid())), "{second}");
}

#[test]
fn two_clusters_share_a_machine() {
    let (first, second) = (Cluster::start("one"), Cluster::start("two"));
    for cluster in [&first, &second] {
        cluster.kubectl().ok(&["create", "deployment", "hello", "--image=knarr.local/hello"]);
    }
    let address = |cluster: &Cluster| {
        cluster.kubectl().ok(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
        let pods = cluster.kubectl().json(&["get", "pods"]);
        pods["items"][0]["status"]["podIP"].as_str().expect("an address").to_owned()
    };
    let (one, two) = (address(&first), address(&second));
    assert_ne!(one, two);
    for address in [one, two] {
        assert!(
            knarr_e2e::fetch(&format!("http://{address}:8080/"))
                .expect("answers")
                .contains("Hello from knarr")
        );
    }
}

#[test]
fn every_command_explains_itself() {
    for command in ["up", "status", "down", "delete", "server", "agent", "image", "kubeconfig", "version"] {
        let help = run(Command::new(binary()).args([command, "--help"])).ok();
        assert!(help.contains("Example:"), "{help}");
    }
    assert!(run(Command::new(binary()).arg("version")).ok().starts_with("v1.37.0+knarr."));
    let nobody_reads = format!("{} completion bash | head -1; exit ${{PIPESTATUS[0]}}", binary().display());
    let piped = run(Command::new("bash").args(["-c", &nobody_reads]));
    assert!(piped.success && piped.stderr.is_empty(), "{piped:?}");
    assert!(run(Command::new(binary()).args(["completion", "bash"])).ok().contains("_knarr"));
    assert!(run(Command::new(binary()).args(["up", "--name", "../x"])).err().contains("cluster name"));
}
