//! kill -9 of the agent while a pod starts, runs and ends, a little later in each round.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use knarr_runtime::cri::*;
use knarr_runtime::embedded::{Config, Embedded};

use crate::support::{IMAGE, PATIENCE, World, processes_mentioning};

/// Where the agent that is killed finds its runtime; set for that process only.
const DIRECTORY: &str = "KNARR_TEST_RUNTIME";
const ROUNDS: u32 = 24;
/// Between the moments of two rounds; all rounds together span a pod's start and end.
const STEP: Duration = Duration::from_millis(7);
const BEGIN: &str = "the pod's life begins";

/// The agent that is killed: one pod after the other, from its sandbox to its removal.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process of its own, started by the test below"]
async fn an_agent_that_will_be_killed() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("started by the test below"));
    let runtime = Embedded::open(config(&directory)).await.expect("the runtime opens");
    println!("{BEGIN}");
    loop {
        one_pod(&runtime, &directory).await.expect("a pod lives and ends");
    }
}

fn config(directory: &Path) -> Config {
    let name = directory.file_name().expect("a name").to_string_lossy().into_owned();
    let mut config =
        Config::below(directory, PathBuf::from(env!("CARGO_BIN_EXE_knarr-test-shim")), &format!("/{name}"));
    config.shim_arguments.clear();
    config
}

async fn one_pod(runtime: &Embedded, directory: &Path) -> Result<()> {
    let cgroup = "/kubepods/poduid-1";
    // Users of its own, where the machine has them, are one more thing to leak.
    let able = runtime.info().await?.handlers.iter().any(|(_, features)| features.user_namespaces);
    let user = able.then_some(IdMapping { host_id: 7 << 16, length: 1 << 16 });
    runtime.apply_pod_cgroup(cgroup, &Resources::default()).await?;
    let sandbox = runtime
        .run_sandbox(SandboxConfig {
            metadata: SandboxMetadata { uid: "uid-1".to_owned(), ..SandboxMetadata::default() },
            log_directory: directory.join("logs"),
            cgroup_parent: cgroup.to_owned(),
            // So is process 1 of the pod.
            namespaces: Namespaces { pid: NamespaceMode::Pod, user, ..Namespaces::default() },
            ..SandboxConfig::default()
        })
        .await?;
    let mut config = ContainerConfig {
        image: IMAGE.to_owned(),
        command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait; done"]
            .map(str::to_owned)
            .into(),
        log_path: PathBuf::from("c.log"),
        ..ContainerConfig::default()
    };
    config.security.namespaces.pid = NamespaceMode::Pod;
    let container = runtime.create_container(&sandbox.id, config).await?;
    runtime.start_container(&container).await?;
    runtime.stop_container(&container, Duration::from_secs(1)).await?;
    runtime.remove_sandbox(&sandbox.id).await?;
    runtime.remove_pod_cgroup(cgroup).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_being_written_goes_with_its_writer() {
    let mut world = World::new().await;
    drop(world.runtime.take());
    let unfinished = world.directory.path().join("runtime/sandboxes/half.json.new");
    std::fs::write(&unfinished, "{").expect("written");
    world.restart().await;
    assert!(!unfinished.exists());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_step_of_a_pod_leaves_nothing_that_the_next_cannot_remove() {
    let mut world = World::new().await;
    drop(world.runtime.take());
    let directory = world.directory.path().to_owned();
    assert_eq!(config(&directory).root, world.config.root, "both processes use one runtime");
    let program = std::env::current_exe().expect("a path");
    for round in 0..ROUNDS {
        let mut agent = Command::new(&program)
            .args(["--exact", "kills::an_agent_that_will_be_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, &directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the agent starts");
        let mut lines = BufReader::new(agent.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains(BEGIN))), "the agent never began");
        // The moment is what this test varies: there is no event to wait for.
        tokio::time::sleep(STEP * round).await;
        agent.kill().expect("killed");
        agent.wait().expect("reaped");
        check(&world, round).await;
    }
    world.restart().await;
    world.end().await;
}

/// The next agent knows of everything, and can take it away.
async fn check(world: &World, round: u32) {
    let runtime = Embedded::open(world.config.clone()).await.expect("the next agent starts");
    for container in runtime.list_containers(None).await.expect("listed") {
        // One that runs can be told to end, and how it ended is known.
        if container.state == ContainerState::Running {
            runtime.stop_container(&container.id, PATIENCE).await.expect("stopped");
            let ended = runtime.container_status(&container.id).await.expect("known");
            // A shell that had not come to its trap yet ends by the signal.
            assert!(
                ended.state == ContainerState::Exited && [0, 143].contains(&ended.exit_code),
                "round {round}: {ended:?}"
            );
        }
        assert_ne!(container.state, ContainerState::Unknown, "round {round}: {container:?}");
    }
    for sandbox in runtime.list_sandboxes().await.expect("listed") {
        runtime.remove_sandbox(&sandbox.id).await.expect("removed");
    }
    runtime.remove_pod_cgroup("/kubepods/poduid-1").await.expect("removed");
    let here = world.directory.path().to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&here), "round {round}: a mount is left: {mounts}");
    assert_eq!(processes_mentioning(&here), [] as [i32; 0], "round {round}: a process is left");
    for part in ["runtime/containers", "runtime/sandboxes", "runtime/tmp", "run/sandboxes"] {
        let left: Vec<_> = std::fs::read_dir(world.directory.path().join(part))
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert!(left.is_empty(), "round {round}: {left:?} in {part}");
    }
    assert!(runtime.list_pod_cgroups("/kubepods").await.expect("listed").is_empty(), "round {round}");
    runtime.close().await;
}
