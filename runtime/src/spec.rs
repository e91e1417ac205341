//! From what the kubelet asks and what the image says to what the kernel is told: the OCI runtime spec for
//! libcontainer, and the [`Process`] that the shim itself finishes.

pub mod capabilities;
pub mod devices;
mod files;
mod mounts;
mod process;
pub mod seccomp;
pub mod user;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cri::{ContainerConfig, NamespaceMode, Propagation};
use crate::image::manifest::RunConfig;
use crate::shim::launch::Process;

/// Something the pod asks for that can never work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Invalid(String),
    #[error("{doing}: {source}")]
    Io { doing: String, source: std::io::Error },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Namespaces to join, as files of nsfs; `None` is the node's own.
#[derive(Debug, Clone, Default)]
pub struct NamespacePaths {
    pub network: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    pub uts: Option<PathBuf>,
    pub user: Option<PathBuf>,
    pub pid: PidNamespace,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PidNamespace {
    #[default]
    New,
    Join(PathBuf),
    Node,
}

/// All that a container's spec depends on.
#[derive(Debug)]
pub struct Input<'a> {
    pub config: &'a ContainerConfig,
    pub image: &'a RunConfig,
    /// The mounted root, to look users up in.
    pub rootfs: PathBuf,
    pub namespaces: NamespacePaths,
    pub hostname: &'a str,
    /// Below the hierarchies' roots.
    pub cgroup_path: String,
    pub unified_cgroups: bool,
    /// Files of the sandbox that every container sees.
    pub sandbox_mounts: Vec<SandboxMount>,
    /// Host path of an image volume's files, in the order of `config.mounts`.
    pub image_volumes: Vec<Option<PathBuf>>,
}

#[derive(Debug, Clone)]
pub struct SandboxMount {
    pub source: PathBuf,
    pub destination: &'static str,
}

/// What a container starts with.
#[derive(Debug)]
pub struct Built {
    /// config.json for libcontainer. It sets up namespaces, mounts and devices only.
    pub oci: Value,
    pub process: Process,
    pub warnings: Vec<String>,
}

pub fn build(input: &Input<'_>) -> Result<Built> {
    let mut warnings = Vec::new();
    let devices = devices::devices(input.config)?;
    let process = process::process(input, &mut warnings)?;
    let mut oci = json!({
        "ociVersion": "1.0.2",
        "process": {
            // Everything about the process is the shim's, which also serves exec: see `shim::finish`.
            "terminal": input.config.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": ["container"],
            "cwd": "/",
        },
        "root": { "path": input.rootfs, "readonly": input.config.security.readonly_rootfs },
        "mounts": mounts::mounts(input)?,
        "linux": linux(input, &devices.nodes),
    });
    if let Some(profile) = &process.apparmor {
        oci["process"]["apparmorProfile"] = json!(profile);
    }
    Ok(Built { oci, process, warnings })
}

fn linux(input: &Input<'_>, devices: &[Value]) -> Value {
    let security = &input.config.security;
    let mut linux = json!({
        "namespaces": namespaces(input),
        "cgroupsPath": input.cgroup_path,
        "devices": devices,
    });
    if !security.privileged {
        linux["maskedPaths"] = json!(security.masked_paths);
        linux["readonlyPaths"] = json!(security.readonly_paths);
    }
    if let Some(propagation) = root_propagation(input.config) {
        linux["rootfsPropagation"] = json!(propagation);
    }
    linux
}

/// A volume can only propagate through a root that propagates at least as much.
fn root_propagation(config: &ContainerConfig) -> Option<&'static str> {
    let any = |wanted| config.mounts.iter().any(|mount| mount.propagation == wanted);
    if any(Propagation::Bidirectional) {
        Some("rshared")
    } else if any(Propagation::HostToContainer) {
        Some("rslave")
    } else {
        None
    }
}

/// Process 1 of a pod that shares its process namespace: an empty read-only root and no program.
pub fn pause(namespaces: &NamespacePaths, rootfs: &Path, cgroup_path: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["pause"], "cwd": "/" },
        "root": { "path": rootfs, "readonly": true },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"] },
        ],
        "linux": { "namespaces": joined(namespaces), "cgroupsPath": cgroup_path },
    })
}

fn namespaces(input: &Input<'_>) -> Vec<Value> {
    let mut namespaces = joined(&input.namespaces);
    if input.unified_cgroups && !input.config.security.privileged {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    namespaces
}

fn joined(paths: &NamespacePaths) -> Vec<Value> {
    let mut namespaces = vec![json!({ "type": "mount" })];
    for (kind, path) in
        [("user", &paths.user), ("network", &paths.network), ("ipc", &paths.ipc), ("uts", &paths.uts)]
    {
        if let Some(path) = path {
            namespaces.push(json!({ "type": kind, "path": path }));
        }
    }
    match &paths.pid {
        PidNamespace::New => namespaces.push(json!({ "type": "pid" })),
        PidNamespace::Join(path) => namespaces.push(json!({ "type": "pid", "path": path })),
        PidNamespace::Node => {}
    }
    namespaces
}

/// Whether a process outlives its container's init.
pub fn shares_pid_namespace(mode: &NamespaceMode) -> bool {
    !matches!(mode, NamespaceMode::Container)
}
