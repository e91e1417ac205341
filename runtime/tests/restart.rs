//! The agent dies, shims die, the machine restarts: what is found again.

mod kills;
mod support;

use knarr_runtime::cri::*;
use support::{World, processes_mentioning};

/// Pid of the container's shim.
fn shim_of(world: &World, id: &str) -> i32 {
    let path = world.config.root.join("containers").join(id).join("shim.json");
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).expect("shim.json")).expect("json");
    file["shim"]["pid"].as_i64().expect("a pid") as i32
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_finds_running_containers_and_goes_on_with_them() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    let before = world.runtime().container_status(&id).await.expect("a status");
    world.restart().await;
    let after = world.runtime().container_status(&id).await.expect("a status");
    assert_eq!(
        (before.pid, before.started_at, after.state),
        (after.pid, after.started_at, ContainerState::Running)
    );
    let found = world.runtime().sandbox_status(&sandbox).await.expect("a sandbox");
    assert_eq!(found.state, SandboxState::Ready);
    assert_eq!(world.shell(&id, "echo alive").await.stdout, b"alive\n");
    world.runtime().remove_sandbox(&sandbox).await.expect("removed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_saw_is_still_known() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "read line; exit 6 < /dev/null").await;
    drop(world.runtime.take());
    let exit = world.config.root.join("containers").join(&id).join("exit.json");
    while !exit.exists() {
        tokio::task::yield_now().await;
    }
    world.restart().await;
    let status = world.runtime().container_status(&id).await.expect("a status");
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 6));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_whose_shim_died_is_followed_and_can_be_removed() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    kill(shim_of(&world, &id));
    world.restart().await;
    let status = world.runtime().container_status(&id).await.expect("a status");
    assert_eq!(status.state, ContainerState::Running, "it runs on without its shim");
    world.runtime().stop_container(&id, std::time::Duration::ZERO).await.expect("killed");
    assert_eq!(world.ended(&id).await.reason, "ContainerStatusUnknown");
    world.runtime().remove_container(&id).await.expect("removed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_containers_are_removed_at_start() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.create(&sandbox, "true", |_| {}).await;
    let directory = world.config.root.join("containers").join(&id);
    std::fs::remove_file(directory.join("container.json")).expect("as if it was never written");
    world.restart().await;
    assert!(!directory.exists());
    assert!(world.runtime().list_containers(None).await.expect("a list").is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_machine_nothing_runs_and_everything_can_be_removed() {
    let mut world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    let status = world.runtime().container_status(&id).await.expect("a status");
    drop(world.runtime.take());
    // A restart takes processes and gives another boot id.
    kill(shim_of(&world, &id));
    kill(status.pid.expect("a pid"));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let other = "00000000-0000-0000-0000-000000000000";
    let shim = world.config.root.join("containers").join(&id).join("shim.json");
    let record = world.config.root.join("sandboxes").join(format!("{sandbox}.json"));
    for file in [shim, record] {
        let text = std::fs::read_to_string(&file).expect("a file").replace(boot.trim(), other);
        std::fs::write(&file, text).expect("written");
    }
    world.restart().await;
    let status = world.runtime().container_status(&id).await.expect("a status");
    assert_eq!((status.state, status.exit_code), (ContainerState::Unknown, 137));
    let found = world.runtime().sandbox_status(&sandbox).await.expect("a sandbox");
    assert_eq!(found.state, SandboxState::NotReady);
    world.runtime().remove_sandbox(&sandbox).await.expect("removed");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_leaves_nothing_whatever_runs() {
    let world = World::new().await;
    let sandbox = world.sandbox_with(|config| config.namespaces.pid = NamespaceMode::Pod).await;
    world.run(&sandbox, "exec sleep 1000").await;
    world.run(&sandbox, "sleep 1000 & exec sleep 1001").await;
    let here = world.directory.path().to_string_lossy().into_owned();
    assert_eq!(processes_mentioning(&here).len(), 4, "two shims, the pod's process 1 and its shim");
    world.end().await;
}

/// Starts an agent on the world's files and kills it when it has said `step` and `delay` more turns have passed.
fn kill_agent_at(world: &World, step: &str, delay: std::time::Duration) {
    use std::io::BufRead;
    let mut agent = std::process::Command::new(env!("CARGO_BIN_EXE_knarr-test-shim"))
        .args([
            "agent",
            &world.directory.path().to_string_lossy(),
            &world.config.cgroup_prefix,
            support::IMAGE,
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("an agent");
    // Kept until the end: the agent goes on to speak.
    let mut lines = std::io::BufReader::new(agent.stdout.take().expect("its output")).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == step), "the agent comes to {step:?}");
    // Different depths into the step: the clock is the only thing that the two processes share.
    let start = std::time::Instant::now();
    while start.elapsed() < delay {
        std::hint::spin_loop();
    }
    agent.kill().expect("killed");
    agent.wait().expect("reaped");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_killed_agent_was_doing_the_next_one_finds_and_removes() {
    let mut world = World::new().await;
    let steps =
        ["apply", "sandbox", "create", "start", "exec", "stop", "remove", "stop sandbox", "remove sandbox"];
    for step in steps {
        for milliseconds in [0, 1, 4, 12] {
            drop(world.runtime.take());
            kill_agent_at(&world, step, std::time::Duration::from_millis(milliseconds));
            world.restart().await;
            let runtime = world.runtime();
            for sandbox in runtime.list_sandboxes().await.expect("a list") {
                runtime.remove_sandbox(&sandbox.id).await.unwrap_or_else(|e| panic!("after {step}: {e}"));
            }
            assert!(runtime.list_containers(None).await.expect("a list").is_empty(), "after {step}");
            runtime.remove_pod_cgroup("/kubepods/pod1").await.unwrap_or_else(|e| panic!("after {step}: {e}"));
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
            let here = world.directory.path().to_string_lossy().into_owned();
            assert!(!mounts.contains(&here), "a mount is left after {step}: {mounts}");
            let left = processes_mentioning(&here);
            assert!(left.is_empty(), "a process is left after {step} and {milliseconds} ms");
        }
    }
    world.end().await;
}

/// Every container costs a shim, so what one holds counts a hundred times on a full node.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_shim_holds_little_memory_of_its_own() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    let rollup =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim_of(&world, &id))).expect("a rollup");
    let kibibytes = |key: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let private = kibibytes("Private_Dirty:");
    println!("{private} KiB private, {} KiB proportional", kibibytes("Pss:"));
    assert!(private < 2048, "{private} KiB");
    world.end().await;
}
