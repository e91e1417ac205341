//! Pods with users of their own.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use knarr_runtime::cri::*;
use tokio::io::AsyncReadExt;

use crate::support::{IMAGE, World};

const FIRST: u32 = 7 << 16;

async fn sandbox(world: &World, pid: NamespaceMode) -> SandboxId {
    let ids = IdMapping { host_id: FIRST, length: 1 << 16 };
    world
        .sandbox_with(|config| {
            config.namespaces = Namespaces { pid, user: Some(ids), ..Default::default() };
        })
        .await
}

fn owner(path: &Path) -> (u32, u32) {
    let found = std::fs::symlink_metadata(path).expect("it is there");
    (found.uid(), found.gid())
}

#[tokio::test(flavor = "multi_thread")]
async fn root_of_a_pod_with_its_own_users_is_nobody_on_the_host() {
    let world = World::new().await;
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    let id = world
        .run(&sandbox, "echo $(id -u) $(hostname) > /etc/by-root; touch /dev/shm/s; exec sleep 1000")
        .await;
    let seen =
        world.shell(&id, "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; cat /etc/by-root").await;
    let map = format!(" 0 {FIRST} 65536\n");
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert_eq!(text, format!("{map}{map}0 pod-host\n"), "{seen:?}");
    let status = world.runtime().container_status(&id).await.expect("a status");
    assert_eq!(owner(Path::new(&format!("/proc/{}", status.pid.expect("runs")))).0, FIRST);
    // What the image and the node give it is its own root's; what belongs to others it cannot take.
    let script = "stat -c %u /bin/busybox /etc/hostname /dev/shm/s /proc/1 | sort | uniq -c; \
                  mount -t tmpfs x /tmp 2>&1; echo 1 > /proc/sys/vm/drop_caches";
    let seen = world.shell(&id, script).await;
    assert_eq!(
        String::from_utf8_lossy(&seen.stdout).split_whitespace().take(2).collect::<Vec<_>>(),
        ["4", "0"]
    );
    assert_ne!(seen.exit_code, 0, "{seen:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_a_pod_with_its_own_users_keep_the_containers_ids() {
    let world = World::new().await;
    let sandbox = sandbox(&world, NamespaceMode::Container).await;
    let (volume, file) = (world.directory.path().join("volume"), world.directory.path().join("file"));
    std::fs::create_dir(&volume).expect("created");
    std::fs::write(&file, "text\n").expect("written");
    // Not even the way to it is open to others.
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o700)).expect("closed");
    chown(&volume, Some(33), Some(34)).expect("given away");
    let (status, log) = world
        .finish(&sandbox, "id -u; stat -c '%u %g' /v /file; echo mine > /v/new; stat -c %u /v/new; cat /image/etc/group | head -n1; stat -c %u /image/bin", |config| {
            let mount = |path: &str| Mount { container_path: path.to_owned(), ..Mount::default() };
            config.mounts = vec![
                Mount { host_path: volume.clone(), ..mount("/v") },
                Mount { host_path: file.clone(), readonly: true, ..mount("/file") },
                Mount { image: Some(IMAGE.to_owned()), readonly: true, ..mount("/image") },
            ];
            config.security.run_as_user = Some(33);
        })
        .await;
    assert_eq!(log, "33\n33 34\n0 0\n33\nroot:x:0:\n0\n", "{status:?}");
    assert_eq!(owner(&volume.join("new")), (33, 34), "on the disk are the container's ids");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_with_its_own_users_share_processes_and_terminals() {
    let mut world = World::new().await;
    let sandbox = sandbox(&world, NamespaceMode::Pod).await;
    let in_pod = |config: &mut ContainerConfig| config.security.namespaces.pid = NamespaceMode::Pod;
    let first = world.run_with(&sandbox, "exec sleep 1001", in_pod).await;
    let second = world
        .run_with(&sandbox, "while ! ps | grep -q '[s]leep 1001'; do :; done; exec sleep 1002", |config| {
            in_pod(config);
            config.tty = true;
        })
        .await;
    world.restart().await;
    let seen = world.shell(&first, "ps | grep -c '[s]leep 100'; stat -c %u /proc/1").await;
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "2\n65535\n", "{seen:?}");
    let options = StreamOptions { stdin: false, stdout: true, stderr: false, tty: true };
    let command = ["sh".to_owned(), "-c".to_owned(), "tty; id -u".to_owned()];
    let mut streams = world.runtime().exec(&second, &command, options).await.expect("exec");
    let mut text = String::new();
    streams.stdout.take().expect("stdout").read_to_string(&mut text).await.expect("read");
    assert!(text.contains("/dev/pts/") && text.contains("0\r\n"), "{text}");
    world.end().await;
}
