//! Real containers, as root.

mod support;
mod users;

use std::time::Duration;

use knarr_runtime::cri::*;
use support::{PATIENCE, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_and_its_output_is_logged() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let (status, log) = world
        .finish(&sandbox, "echo out; echo err >&2; hostname; echo $FROM_IMAGE $HOSTNAME; exit 3", |_| {})
        .await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, "Error"), "{status:?}");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out", "pod-host", "yes pod-host"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_exist_fails_the_start_in_words_of_runc() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.create(&sandbox, "", |config| config.command = vec!["no-such".to_owned()]).await;
    let error = world.runtime().start_container(&id).await.expect_err("it cannot start");
    assert!(matches!(error, Error::Start { exit_code: 128, .. }), "{error:?}");
    assert!(error.to_string().ends_with("exec: \"no-such\": executable file not found in $PATH"), "{error}");
    let status = world.runtime().container_status(&id).await.expect("a status");
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_gives_output_exit_code_and_the_containers_environment() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    let result = world.shell(&id, "echo $FROM_IMAGE; echo bad >&2; exit 7").await;
    assert_eq!((result.stdout, result.stderr, result.exit_code), (b"yes\n".to_vec(), b"bad\n".to_vec(), 7));
    let missing = world.runtime().exec_sync(&id, &["nope".to_owned()], PATIENCE).await.expect_err("missing");
    assert!(matches!(missing, Error::Start { exit_code: 127, .. }), "{missing:?}");
    let slow = ["sleep".to_owned(), "1000".to_owned()];
    let late = world.runtime().exec_sync(&id, &slow, Duration::from_millis(200)).await.expect_err("late");
    assert!(matches!(late, Error::Timeout { .. }), "{late:?}");
    assert_eq!(
        world.shell(&id, "ps | grep -c '[s]leep 1000'").await.stdout,
        b"1\n",
        "the late one was killed"
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_streams_input_and_hears_its_end() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    let options = StreamOptions { stdin: true, stdout: true, stderr: false, tty: false };
    let command = ["sh".to_owned(), "-c".to_owned(), "cat; exit 5".to_owned()];
    let mut streams = world.runtime().exec(&id, &command, options).await.expect("exec");
    let mut stdin = streams.stdin.take().expect("stdin");
    stdin.write_all(b"hello").await.expect("written");
    drop(stdin);
    let mut text = String::new();
    streams.stdout.take().expect("stdout").read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "hello");
    assert_eq!(streams.exit.await.expect("an answer").expect("a code"), 5);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_with_a_terminal_has_a_size_and_echoes() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "exec sleep 1000").await;
    let options = StreamOptions { stdin: true, stdout: true, stderr: false, tty: true };
    let command = ["sh".to_owned()];
    let mut streams = world.runtime().exec(&id, &command, options).await.expect("exec");
    streams.resize.as_ref().expect("a terminal").send((100, 40)).await.expect("resized");
    let mut stdin = streams.stdin.take().expect("stdin");
    stdin
        .write_all(b"tty; while [ \"$(stty size)\" != '40 100' ]; do :; done; echo si''zed; exit 4\n")
        .await
        .expect("written");
    let mut text = String::new();
    streams.stdout.take().expect("stdout").read_to_string(&mut text).await.expect("read");
    assert!(text.contains("/dev/pts/0") && text.contains("sized\r\n"), "{text}");
    assert_eq!(streams.exit.await.expect("an answer").expect("a code"), 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reaches_the_containers_own_streams() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world
        .run_with(&sandbox, "read line; echo got $line; read end", |config| {
            config.stdin = true;
            config.stdin_once = true;
        })
        .await;
    let options = StreamOptions { stdin: true, stdout: true, stderr: true, tty: false };
    let mut streams = world.runtime().attach(&id, options).await.expect("attach");
    let mut stdin = streams.stdin.take().expect("stdin");
    stdin.write_all(b"this\n").await.expect("written");
    let mut buffer = [0; 9];
    let stdout = streams.stdout.as_mut().expect("stdout");
    stdout.read_exact(&mut buffer).await.expect("read");
    assert_eq!(&buffer, b"got this\n");
    drop(stdin);
    assert_eq!(world.ended(&id).await.exit_code, 1, "read fails at the end of input");
    assert_eq!(streams.exit.await.expect("an answer").expect("a code"), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_container_logs_what_it_prints() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let (status, log) = world.finish(&sandbox, "tty; echo $TERM", |config| config.tty = true).await;
    assert_eq!(status.exit_code, 0, "{status:?}");
    assert_eq!(log, "/dev/pts/0\nxterm\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_over_its_memory_limit_is_oom_killed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let limit = |config: &mut ContainerConfig| config.resources.memory_limit = 16 << 20;
    let (status, _) = world.finish(&sandbox, "exec head -c 100m /dev/zero | tail -c 90m", limit).await;
    assert_eq!(status.reason, "OOMKilled", "{status:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_enforced_shown_and_changed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world
        .run_with(&sandbox, "exec sleep 1000", |config| {
            config.resources = Resources {
                memory_limit: 64 << 20,
                cpu_shares: 512,
                cpu_quota: 50_000,
                cpu_period: 100_000,
                pids_limit: 20,
                ..Default::default()
            };
        })
        .await;
    let limits = |status: ContainerStatus| status.resources.expect("limits of a running container");
    let seen = limits(world.runtime().container_status(&id).await.expect("a status"));
    assert_eq!(
        (seen.memory_limit, seen.cpu_shares, seen.cpu_quota, seen.pids_limit),
        (64 << 20, 512, 50_000, 20)
    );
    let larger = Resources { memory_limit: 128 << 20, ..Default::default() };
    world.runtime().update_container_resources(&id, &larger).await.expect("updated");
    let seen = limits(world.runtime().container_status(&id).await.expect("a status"));
    assert_eq!((seen.memory_limit, seen.cpu_quota), (128 << 20, 50_000));
    let stats = world.runtime().container_stats(&id).await.expect("stats");
    assert!(stats.memory_usage > 0 && stats.processes == 1, "{stats:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_container_gets_its_signal_and_then_is_killed() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let polite = world.run(&sandbox, "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done").await;
    let stubborn = world.run(&sandbox, "trap '' TERM; while :; do sleep 0.1; done").await;
    // Its trap is set once it says so.
    let status = world.runtime().container_status(&polite).await.expect("a status");
    while !world.log(&status).contains("ready") {
        tokio::task::yield_now().await;
    }
    world.runtime().stop_container(&polite, PATIENCE).await.expect("stopped");
    assert_eq!(world.ended(&polite).await.exit_code, 9);
    world.runtime().stop_container(&stubborn, Duration::from_millis(300)).await.expect("killed");
    let status = world.ended(&stubborn).await;
    assert_eq!((status.exit_code, status.signal), (137, 9));
    world.runtime().stop_container(&stubborn, PATIENCE).await.expect("stopping the stopped is fine");
    world.runtime().remove_container(&stubborn).await.expect("removed");
    world.runtime().remove_container(&stubborn).await.expect("removing the removed is fine");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_comes_during_the_start_is_not_lost() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.create(&sandbox, "exec sleep 1000", |_| {}).await;
    let runtime = world.runtime();
    // Polled in this order: the start is under way when the stop looks.
    let (started, stopped) =
        tokio::join!(biased; runtime.start_container(&id), runtime.stop_container(&id, Duration::ZERO));
    started.expect("started");
    stopped.expect("stopped");
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 137));
    assert!(status.started_at > 0, "{status:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_groups_and_capabilities_are_as_asked() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let script =
        "exec 2>&1; id; grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/self/status; mkdir /made; pwd";
    let (status, log) = world
        .finish(&sandbox, script, |config| {
            config.security.run_as_username = "web".to_owned();
            config.security.supplemental_groups = vec![777];
            config.security.drop_capabilities = vec!["ALL".to_owned()];
            config.security.add_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
            config.security.no_new_privs = true;
            config.security.seccomp = Some(Profile::RuntimeDefault);
            config.working_dir = "/not/there/yet".to_owned();
        })
        .await;
    assert!(log.contains("uid=33(web) gid=34(www) groups=34(www),40(logs),777"), "{log}");
    assert!(log.contains("CapBnd:\t0000000000000400") && log.contains("CapEff:\t0000000000000000"), "{log}");
    assert!(log.contains("NoNewPrivs:\t1") && log.contains("Seccomp:\t2"), "{log}");
    assert!(log.contains("Permission denied") && log.ends_with("/not/there/yet\n"), "{log}");
    assert_eq!(status.user.expect("a user").uid, 33);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_seccomp_profile_holds_for_init_and_exec() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world
        .run_with(&sandbox, "exec sleep 1000", |config| {
            config.security.seccomp = Some(Profile::RuntimeDefault);
            config.security.namespaces.pid = NamespaceMode::Container;
        })
        .await;
    let refused =
        world.shell(&id, "unshare -U true 2>&1; grep Seccomp: /proc/1/status /proc/self/status").await;
    let text = String::from_utf8(refused.stdout).expect("text");
    assert!(text.contains("Operation not permitted"), "{text}");
    assert_eq!(text.matches("Seccomp:\t2").count(), 2, "{text}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_mounted_as_asked() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let volume = world.directory.path().join("volume");
    std::fs::create_dir(&volume).expect("a directory");
    std::fs::write(volume.join("in"), "from the node").expect("a file");
    let mount = |readonly, path: &str| Mount {
        container_path: path.to_owned(),
        host_path: volume.clone(),
        readonly,
        ..Default::default()
    };
    let script = "cat /ro/in; echo x > /ro/y || echo refused; echo out > /rw/out; touch /root/x || echo root; touch /dev/shm/ok";
    let (status, log) = world
        .finish(&sandbox, script, |config| {
            config.mounts = vec![mount(true, "/ro"), mount(false, "/rw")];
            config.security.readonly_rootfs = true;
        })
        .await;
    assert_eq!(status.exit_code, 0, "{log}");
    assert!(log.contains("from the node") && log.contains("refused") && log.contains("root"), "{log}");
    assert_eq!(std::fs::read_to_string(volume.join("out")).expect("written"), "out\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_share_what_they_ask_to_share() {
    let world = World::new().await;
    let sandbox = world.sandbox_with(|config| config.namespaces.pid = NamespaceMode::Pod).await;
    let shared = |config: &mut ContainerConfig| config.security.namespaces.pid = NamespaceMode::Pod;
    let first = world.run_with(&sandbox, "exec sleep 1234", shared).await;
    let second = world.run_with(&sandbox, "exec sleep 4321", shared).await;
    let seen =
        String::from_utf8(world.shell(&first, "ps; ls /proc/1/root; true").await.stdout).expect("text");
    assert!(seen.contains("sleep 1234") && seen.contains("sleep 4321"), "{seen}");
    let here =
        world.shell(&second, "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts").await.stdout;
    let there =
        world.shell(&first, "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/uts").await.stdout;
    assert_eq!(here, there);
    world.runtime().remove_sandbox(&sandbox).await.expect("removed");
    assert!(world.runtime().list_containers(None).await.expect("a list").is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn port_forward_reaches_the_pods_loopback() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let id = world.run(&sandbox, "echo hello from the pod | nc -l -p 8080").await;
    let connect = async {
        loop {
            match world.runtime().port_forward(&sandbox, 8080).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let mut stream = tokio::time::timeout(PATIENCE, connect).await.expect("it listens");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "hello from the pod\n");
    drop(stream);
    world.ended(&id).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_has_the_nodes_devices() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let devices = "ls /dev | grep -c -E '^(kmsg|loop0|vda|kvm|mem|hwrng|ttyS0)$'";
    let (_, plain) = world.finish(&sandbox, devices, |_| {}).await;
    let (_, privileged) = world.finish(&sandbox, devices, |config| config.security.privileged = true).await;
    assert_eq!(plain, "0\n");
    assert_ne!(privileged, "0\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_that_makes_containers_cannot_be_written_through_them() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    world.run(&sandbox, "exec sleep 1000").await;
    let here = world.directory.path().to_string_lossy().into_owned();
    let shims = support::processes_mentioning(&here);
    assert_eq!(shims.len(), 1);
    // What /proc/self/exe of a process that enters the container leads to (CVE-2019-5736).
    let mount = nix::sys::statvfs::statvfs(format!("/proc/{}/exe", shims[0]).as_str()).expect("its mount");
    assert!(mount.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
    world.end().await;
}
