//! What the agent tells a shim about its container, as a file in the container's directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// `launch.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    pub id: String,
    pub kind: Kind,
    /// The CRI log; `None` for a sandbox's pause process.
    pub log_path: Option<PathBuf>,
    pub tty: bool,
    pub stdin: bool,
    /// Close the container's stdin when the first client that attached with stdin leaves.
    pub stdin_once: bool,
    pub process: Process,
    /// The container's cgroups: one directory per hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// The file that counts OOM kills, and how it is laid out.
    pub oom_events: Option<PathBuf>,
    /// `cgroup.procs` files the shim itself joins.
    pub shim_cgroups: Vec<PathBuf>,
    /// The process namespace is not the container's own, so that its processes survive their init and must be
    /// killed through the cgroup.
    pub shared_pid_namespace: bool,
    /// The container lives in its pod's user namespace.
    pub users: Option<Users>,
}

/// A user namespace to create the container in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Users {
    /// The namespace, as a file of nsfs.
    pub namespace: PathBuf,
    /// Which id of the host its root is.
    pub host_id: u32,
    /// What config.json names by [`super::stage::path`], by number.
    pub sources: Vec<Source>,
}

/// A file or directory of the host that the container's root could not reach by its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub path: PathBuf,
    /// With everything mounted below it.
    pub recursive: bool,
    /// Owners are shown as ids of the user namespace.
    pub mapped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Container,
    /// Holds a pod's process namespace and reaps orphans.
    Pause,
}

/// Everything between a prepared root and execve; the same for init and exec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: Capabilities,
    pub no_new_privs: bool,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    /// Compiled filter, `struct sock_filter[]`, in a file of the container's directory.
    pub seccomp: Option<PathBuf>,
    /// Further flags of seccomp(2) (SECCOMP_FILTER_FLAG_LOG, ...).
    pub seccomp_flags: u64,
    pub apparmor: Option<String>,
    pub tty: bool,
}

/// Bit masks, bit number = capability number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

pub const FILE: &str = "launch.json";

/// Locks `launch.json`. The agent hands the locked file to the shim, which lets go of it when `shim.json` says that it
/// is there; so whoever gets the lock knows that no shim is on its way. Waits for that.
pub fn lock(directory: &Path) -> std::io::Result<std::fs::File> {
    let file = std::fs::File::open(directory.join(FILE))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}

impl Launch {
    pub fn load(directory: &Path) -> std::io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(directory.join(FILE))?)?)
    }
}
