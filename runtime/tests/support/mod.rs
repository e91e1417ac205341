//! A runtime of a test's own: directories, cgroups and everything in them go away with it, also when it fails.

#![allow(dead_code, reason = "every test binary uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use knarr_runtime::cri::*;
use knarr_runtime::embedded::{Config, Embedded};

/// Longest that anything a test waits for may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const IMAGE: &str = "docker.io/library/busybox:test";

pub struct World {
    pub directory: tempfile::TempDir,
    pub config: Config,
    pub runtime: Option<Embedded>,
}

impl World {
    /// With the busybox image imported.
    pub async fn new() -> Self {
        let mut world = World::empty().await;
        let archive = docker_archive(
            IMAGE,
            &busybox_layer(),
            &serde_json::json!({ "Env": ["PATH=/bin", "FROM_IMAGE=yes"] }),
        );
        world.runtime().import_image(std::io::Cursor::new(archive)).await.expect("busybox is imported");
        world.runtime.as_mut().expect("the runtime is open");
        world
    }

    pub async fn empty() -> Self {
        let directory = tempfile::Builder::new().prefix("knarr-runtime-").tempdir().expect("a directory");
        let name = directory.path().file_name().expect("a name").to_string_lossy().into_owned();
        let shim = PathBuf::from(env!("CARGO_BIN_EXE_knarr-test-shim"));
        let mut config = Config::below(directory.path(), shim, &format!("/{name}"));
        config.shim_arguments.clear();
        let runtime = Embedded::open(config.clone()).await.expect("the runtime opens");
        World { directory, config, runtime: Some(runtime) }
    }

    pub fn runtime(&self) -> &Embedded {
        self.runtime.as_ref().expect("the runtime is open")
    }

    /// As after a crash of the agent: a new one on the same files.
    pub async fn restart(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Lets go of its connections, as a process that dies.
            runtime.close().await;
        }
        self.runtime = Some(Embedded::open(self.config.clone()).await.expect("the runtime opens again"));
    }

    pub async fn sandbox(&self) -> SandboxId {
        self.sandbox_with(|_| {}).await
    }

    pub async fn sandbox_with(&self, change: impl FnOnce(&mut SandboxConfig)) -> SandboxId {
        let mut config = SandboxConfig {
            metadata: SandboxMetadata {
                name: "pod".to_owned(),
                namespace: "default".to_owned(),
                uid: "uid-1".to_owned(),
                attempt: 0,
            },
            hostname: "pod-host".to_owned(),
            log_directory: self.directory.path().join("logs"),
            cgroup_parent: "/kubepods/poduid-1".to_owned(),
            namespaces: Namespaces { pid: NamespaceMode::Container, ..Default::default() },
            ..Default::default()
        };
        change(&mut config);
        self.runtime()
            .apply_pod_cgroup(&config.cgroup_parent, &Resources::default())
            .await
            .expect("a pod cgroup");
        self.runtime().run_sandbox(config).await.expect("a sandbox").id
    }

    /// A container that runs a shell script, not started.
    pub async fn create(
        &self,
        sandbox: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> ContainerId {
        self.try_create(sandbox, script, change).await.expect("a container")
    }

    pub async fn try_create(
        &self,
        sandbox: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> Result<ContainerId> {
        let mut config = ContainerConfig {
            metadata: ContainerMetadata { name: "c".to_owned(), attempt: 0 },
            image: IMAGE.to_owned(),
            image_reference: IMAGE.to_owned(),
            command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
            log_path: PathBuf::from(format!("{}.log", next())),
            ..Default::default()
        };
        config.security.namespaces.pid = NamespaceMode::Container;
        change(&mut config);
        self.runtime().create_container(sandbox, config).await
    }

    pub async fn run(&self, sandbox: &str, script: &str) -> ContainerId {
        self.run_with(sandbox, script, |_| {}).await
    }

    pub async fn run_with(
        &self,
        sandbox: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> ContainerId {
        let id = self.create(sandbox, script, change).await;
        self.runtime().start_container(&id).await.expect("the container starts");
        id
    }

    /// Runs a script to its end; returns the status and the log's text without times.
    pub async fn finish(
        &self,
        sandbox: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> (ContainerStatus, String) {
        let id = self.run_with(sandbox, script, change).await;
        let status = self.ended(&id).await;
        (status.clone(), self.log(&status))
    }

    /// Waits for the container's end.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        use futures::StreamExt;
        let mut events = self.runtime().events().await.expect("events");
        let wait = async {
            loop {
                let status = self.runtime().container_status(id).await.expect("a status");
                if matches!(status.state, ContainerState::Exited | ContainerState::Unknown) {
                    return status;
                }
                events.next().await.expect("the events go on");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the container ends")
    }

    pub fn log(&self, status: &ContainerStatus) -> String {
        let text = std::fs::read_to_string(&status.log_path).unwrap_or_default();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    pub async fn shell(&self, id: &str, script: &str) -> ExecResult {
        let command = ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        self.runtime().exec_sync(id, &command, PATIENCE).await.expect("the script runs")
    }

    /// Removes everything and checks that nothing is left.
    pub async fn end(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.destroy().await.expect("everything is removed");
        }
        self.assert_clean();
    }

    pub fn assert_clean(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let here = self.directory.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&here), "a mount is left: {mounts}");
        for hierarchy in cgroup_roots() {
            let left = hierarchy.join(self.config.cgroup_prefix.trim_start_matches('/'));
            assert!(!left.exists(), "a cgroup is left: {}", left.display());
        }
        assert!(processes_mentioning(&here).is_empty(), "a process is left");
        assert!(!self.config.root.exists() && !self.config.state.exists(), "files are left");
    }
}

impl Drop for World {
    /// After a failure, so that it does not disturb what comes next.
    fn drop(&mut self) {
        drop(self.runtime.take());
        let config = self.config.clone();
        let cleaner = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { Embedded::open(config).await?.destroy().await })
        });
        if let Err(error) = cleaner.join().expect("the cleaner does not panic") {
            eprintln!("clean-up: {error}");
        }
    }
}

fn next() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let cgroup = |line: &&str| line.contains(" - cgroup");
    mounts.lines().filter(cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// Pids of processes whose command line names `text`.
pub fn processes_mentioning(text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != std::process::id() as i32)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

/// An entry for [`tar`].
pub struct File<'a> {
    pub path: &'a str,
    pub kind: u8,
    pub link: &'a str,
    pub mode: u32,
    pub content: &'a [u8],
}

pub fn file<'a>(path: &'a str, mode: u32, content: &'a [u8]) -> File<'a> {
    File { path, kind: b'0', link: "", mode, content }
}

pub fn directory(path: &str) -> File<'_> {
    File { path, kind: b'5', link: "", mode: 0o755, content: b"" }
}

pub fn link<'a>(path: &'a str, kind: u8, link: &'a str) -> File<'a> {
    File { path, kind, link, mode: 0o777, content: b"" }
}

/// An archive with names exactly as given, however bad.
pub fn tar(files: &[File<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for file in files {
        let mut header = [0u8; 512];
        header[..file.path.len()].copy_from_slice(file.path.as_bytes());
        write!(&mut header[100..108], "{:07o}", file.mode).expect("room");
        write!(&mut header[108..116], "{:07o}", 0).expect("room");
        write!(&mut header[116..124], "{:07o}", 0).expect("room");
        write!(&mut header[124..136], "{:011o}", file.content.len()).expect("room");
        write!(&mut header[136..148], "{:011o}", 1_700_000_000).expect("room");
        header[156] = file.kind;
        header[157..157 + file.link.len()].copy_from_slice(file.link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].copy_from_slice(b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        write!(&mut header[148..156], "{sum:06o}\0").expect("room");
        out.extend_from_slice(&header);
        out.extend_from_slice(file.content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// busybox with its applets, from the machine's busybox-static.
pub fn busybox_layer() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let applets = std::process::Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
    let applets = String::from_utf8(applets.stdout).expect("text");
    let names: Vec<String> =
        applets.lines().filter(|name| *name != "busybox").map(|name| format!("bin/{name}")).collect();
    let mut files = vec![directory("bin/"), directory("etc/"), directory("tmp/"), directory("root/")];
    files.push(file("bin/busybox", 0o755, &program));
    files.extend(names.iter().map(|name| link(name, b'2', "busybox")));
    files.push(file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n"));
    files.push(file("etc/group", 0o644, b"root:x:0:\nwww:x:34:\nlogs:x:40:web\n"));
    tar(&files)
}

/// What `docker save` writes.
pub fn docker_archive(name: &str, layer: &[u8], config: &serde_json::Value) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [digest(layer)] },
    });
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    tar(&[
        file("config.json", 0o644, config.to_string().as_bytes()),
        file("layer.tar", 0o644, layer),
        file("manifest.json", 0o644, manifest.to_string().as_bytes()),
    ])
}

pub fn digest(data: &[u8]) -> String {
    knarr_runtime::image::digest::Digest::of(data).to_string()
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
