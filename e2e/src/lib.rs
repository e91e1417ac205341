//! Black-box checks of the running binary with independent clients: the stock kubectl and curl. Nothing of knarr is
//! linked in. `make test` builds the binary, fetches the clients, makes the images and runs this.
//!
//! Every test has a cluster of its own, under its own name and directory, and deletes it also when it fails.

mod command;
mod disk;
mod kubectl;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use command::{Run, run, run_with};
pub use disk::{Disk, Filling};
pub use kubectl::Kubectl;

/// The versions of kubectl that must all work.
pub const KUBECTLS: [&str; 3] = ["1.32", "1.33", "1.37"];

/// A running cluster; deleted when dropped.
pub struct Cluster {
    pub name: String,
    pub api_port: u16,
    /// Before the directory, because it is mounted there.
    disk: Option<Disk>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts a cluster with a name made of `purpose` and this process's id.
    pub fn start(purpose: &str) -> Self {
        let cluster = Self::prepare(purpose);
        cluster.up().ok();
        cluster
    }

    /// The same without starting it.
    pub fn prepare(purpose: &str) -> Self {
        let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
        Self {
            name: format!("{purpose}-{}", std::process::id()),
            api_port: free_port(),
            disk: None,
            directory,
        }
    }

    /// The same on a small disk of its own.
    pub fn prepare_on_disk(purpose: &str, megabytes: u32) -> Self {
        let mut cluster = Self::prepare(purpose);
        cluster.disk = Some(Disk::mount(cluster.directory.path(), megabytes));
        cluster
    }

    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("it was prepared on a disk")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    pub fn up(&self) -> Run {
        self.up_with(&[])
    }

    /// `up` with further flags.
    pub fn up_with(&self, flags: &[&str]) -> Run {
        let (dir, port) = (self.data_dir().display().to_string(), self.api_port.to_string());
        let own = ["up", "--data-dir", &dir, "--api-port", &port, "--no-merge-kubeconfig"];
        self.knarr(&[&own[..], flags].concat())
    }

    /// Runs `knarr ARGUMENTS --name NAME`.
    pub fn knarr(&self, arguments: &[&str]) -> Run {
        run(Command::new(binary()).args(arguments).args(["--name", &self.name]))
    }

    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_version("1.37")
    }

    pub fn kubectl_version(&self, version: &str) -> Kubectl {
        Kubectl::new(clients().join(format!("kubectl-{version}")), self.kubeconfig())
    }

    /// Imports one of the images that `setup/images` makes.
    pub fn import(&self, image: &str) {
        let archive = root().join(format!("target/images/{image}.tar"));
        self.knarr(&["image", "import", &archive.display().to_string()]).ok();
    }

    /// For whoever has to find out later why a test failed.
    fn tell_what_is_there(&self) {
        for question in [
            &["get", "pods", "--all-namespaces", "--output=wide"][..],
            &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"],
            &["get", "pods", "--output=json"],
        ] {
            let answer = self.kubectl().run(&[question, &["--request-timeout=5s"]].concat());
            eprintln!("--- kubectl {}\n{}{}", question.join(" "), answer.stdout, answer.stderr);
        }
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.data_dir().join("server.lock")).expect("a lock file");
        text.trim().parse().expect("a process id")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_what_is_there();
            let log = std::fs::read_to_string(self.data_dir().join("server.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- the end of the server's log\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        let deleted = self.knarr(&["delete"]);
        if !deleted.success && !std::thread::panicking() {
            panic!("could not delete the cluster: {}", deleted.stderr);
        }
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    let binary = std::env::var_os("KNARR_BINARY").expect("KNARR_BINARY names the binary: run `make test`");
    PathBuf::from(binary)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the room is in the project").to_owned()
}

pub fn clients() -> PathBuf {
    root().join("target/clients")
}

/// Below those that the kernel gives to connections: a port of theirs could be taken between this and its use.
const PORTS: std::ops::Range<u16> = 20_000..29_000;

/// A TCP port that nobody listens on now, another at each call.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different places.
    let offset = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start))
        .expect("below the range's size");
    for _ in PORTS {
        let at = (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = PORTS.start + at;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("all ports of {PORTS:?} are taken");
}

/// What `ask` gives once it gives something; fails after two minutes. For what no client can wait for by itself.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in two minutes: {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The body behind a URL, if it answers with success.
pub fn fetch(url: &str) -> Option<String> {
    let answer = run(Command::new("curl").args(["--silent", "--fail", "--max-time", "5", url]));
    answer.success.then_some(answer.stdout)
}
