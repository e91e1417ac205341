//! What the kubelet asks of a container runtime. The verbs and words are the Container Runtime Interface's
//! (CRI v1), so that the embedded runtime, a simulated one and a containerd behind a socket fit the same trait.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

pub type SandboxId = String;
pub type ContainerId = String;
pub type Result<T, E = Error> = std::result::Result<T, E>;
/// Unix time in nanoseconds, 0 for "not yet": CRI's unit.
pub type UnixNanos = i64;

/// Failures as the kubelet tells them apart. The message is what ends up in the pod's status and events.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} {id} not found")]
    NotFound { what: &'static str, id: String },
    /// The image reference does not parse (InvalidImageName).
    #[error("couldn't parse image name {reference:?}: {reason}")]
    InvalidImageName { reference: String, reason: String },
    /// The image could not be pulled (ErrImagePull).
    #[error("failed to pull and unpack image {reference:?}: {reason}")]
    Pull { reference: String, reason: String },
    /// The request itself can never work (bad user, path, mount): CreateContainerError.
    #[error("{0}")]
    Invalid(String),
    /// The container's process could not be started: exit code 128 (127 or 126 where exec says so), reason
    /// StartError, and this message.
    #[error("{message}")]
    Start { message: String, exit_code: i32 },
    #[error("{doing}: timed out after {after:?}")]
    Timeout { doing: String, after: Duration },
    #[error("{doing}: {cause}")]
    Failed { doing: String, cause: Box<dyn std::error::Error + Send + Sync> },
}

/// How much of a namespace is shared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// With the other containers of the pod.
    #[default]
    Pod,
    /// Only this container (the default for PID).
    Container,
    /// The host's.
    Node,
    /// That of another container of the same sandbox (ephemeral containers with a target).
    Target(ContainerId),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Namespaces {
    pub network: NamespaceMode,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    /// `Some`: a user namespace with these mappings for the whole pod (`hostUsers: false`).
    pub user: Option<IdMapping>,
}

/// A run of ids: container `0..length` is host `host_id..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    pub host_id: u32,
    pub length: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// What identifies a pod's sandbox across restarts of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxMetadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub attempt: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SandboxConfig {
    pub metadata: SandboxMetadata,
    pub hostname: String,
    /// Where container logs go: `<log_directory>/<container>/<attempt>.log`.
    pub log_directory: PathBuf,
    /// `None`: containers see the node's resolv.conf.
    pub dns: Option<DnsConfig>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: Namespaces,
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup, relative to the controllers' roots, e.g. `/kubepods/burstable/pod<uid>`; the kubelet
    /// asks for it with [`ContainerRuntime::apply_pod_cgroup`] first.
    pub cgroup_parent: String,
    /// RuntimeClass handler; empty for the default.
    pub runtime_handler: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    NotReady,
}

#[derive(Debug, Clone)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub metadata: SandboxMetadata,
    pub state: SandboxState,
    pub created_at: UnixNanos,
    /// The pinned network namespace, for the pod network to attach to; `None` where the node's own is used or the
    /// runtime does its own networking.
    pub netns: Option<PathBuf>,
    /// Addresses the runtime itself gave (a CRI runtime with CNI); empty for the embedded runtime.
    pub ips: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Mount {
    pub container_path: String,
    pub host_path: PathBuf,
    /// Set instead of `host_path` for image volumes.
    pub image: Option<String>,
    /// Path inside the image for image volumes.
    pub image_sub_path: String,
    pub readonly: bool,
    pub recursive_read_only: bool,
    pub selinux_relabel: bool,
    pub propagation: Propagation,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Device {
    pub container_path: String,
    pub host_path: String,
    /// Any of `rwm`.
    pub permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Microseconds; 0 means the kernel's default.
    pub cpu_period: i64,
    /// Microseconds per period; 0 means no limit.
    pub cpu_quota: i64,
    /// cgroup v1 shares (2 to 262144); converted for v2.
    pub cpu_shares: i64,
    /// Bytes; 0 means no limit.
    pub memory_limit: i64,
    /// Bytes including swap; 0: same as `memory_limit`.
    pub memory_swap_limit: i64,
    pub oom_score_adj: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Page size (`2MB`) to bytes.
    pub hugepage_limits: BTreeMap<String, u64>,
    /// Further cgroup v2 files to values (memory.min, memory.high, ...).
    pub unified: BTreeMap<String, String>,
    /// 0 means no limit.
    pub pids_limit: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    #[default]
    RuntimeDefault,
    Unconfined,
    /// A path below the node's profile directory (seccomp), or a loaded profile's name (AppArmor).
    Localhost(String),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SecurityContext {
    pub namespaces: Namespaces,
    pub privileged: bool,
    pub run_as_user: Option<i64>,
    pub run_as_group: Option<i64>,
    /// From the image's `USER` when the kubelet has resolved it to a name it cannot turn into a number.
    pub run_as_username: String,
    pub supplemental_groups: Vec<i64>,
    /// `supplementalGroupsPolicy: Strict`: ignore groups of /etc/group in the image.
    pub supplemental_groups_strict: bool,
    pub readonly_rootfs: bool,
    pub no_new_privs: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub seccomp: Option<Profile>,
    pub apparmor: Option<Profile>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerMetadata {
    pub name: String,
    pub attempt: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    pub metadata: ContainerMetadata,
    /// The image's id, as [`ImageInfo::id`].
    pub image: String,
    /// The reference the user wrote, for status.
    pub image_reference: String,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's arguments (and suppresses them where only `command` is set).
    pub args: Vec<String>,
    pub working_dir: String,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log directory.
    pub log_path: PathBuf,
    pub stdin: bool,
    pub stdin_once: bool,
    pub tty: bool,
    pub resources: Resources,
    pub security: SecurityContext,
    /// `None`: the image's STOPSIGNAL or SIGTERM.
    pub stop_signal: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// The shim is gone and nothing is known of how the container ended.
    Unknown,
}

#[derive(Debug, Clone)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox_id: SandboxId,
    pub metadata: ContainerMetadata,
    pub state: ContainerState,
    pub created_at: UnixNanos,
    pub started_at: UnixNanos,
    pub finished_at: UnixNanos,
    pub exit_code: i32,
    /// The signal that ended the process, 0 otherwise.
    pub signal: i32,
    /// `OOMKilled`, `Error`, `Completed`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_reference: String,
    /// `sha256:...` of the image config.
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub log_path: PathBuf,
    pub pid: Option<i32>,
    /// What the cgroup says now.
    pub resources: Option<Resources>,
    /// Effective user, as the status field `user.linux` wants it.
    pub user: Option<LinuxUser>,
    pub stop_signal: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinuxUser {
    pub uid: i64,
    pub gid: i64,
    pub supplemental_groups: Vec<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerEventKind {
    Created,
    Started,
    Stopped,
    Deleted,
    /// The sandbox itself ended.
    SandboxStopped,
}

/// Something changed; the state itself is asked for with `container_status`.
#[derive(Debug, Clone)]
pub struct ContainerEvent {
    pub kind: ContainerEventKind,
    pub sandbox_id: SandboxId,
    pub container_id: ContainerId,
    pub pod_uid: String,
}

pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A running exec or attach. Dropping it hangs up (an exec'd process without a terminal goes on, as in upstream).
pub struct Streams {
    pub stdin: Option<Writer>,
    pub stdout: Option<Reader>,
    pub stderr: Option<Reader>,
    /// Terminal sizes to apply, columns and rows; present when there is a terminal.
    pub resize: Option<tokio::sync::mpsc::Sender<(u16, u16)>>,
    /// Exec: the process's exit code. Attach: the container's, when it ends while attached.
    pub exit: tokio::sync::oneshot::Receiver<Result<i32>>,
}

#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

#[derive(Debug, Clone, Default)]
pub struct ExecResult {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit_code: i32,
}

#[derive(Debug, Clone, Default)]
pub struct ImageInfo {
    /// `sha256:...` of the config.
    pub id: String,
    /// `repo:tag` names.
    pub repo_tags: Vec<String>,
    /// `repo@sha256:...` names.
    pub repo_digests: Vec<String>,
    /// Bytes of unpacked, unshared content.
    pub size: u64,
    /// Numeric `USER` of the image.
    pub uid: Option<i64>,
    /// `USER` of the image when it is a name.
    pub username: String,
    /// Never collected.
    pub pinned: bool,
    pub volumes: Vec<String>,
}

/// Credentials of one registry.
#[derive(Clone, Default)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
    /// base64 of `username:password`.
    pub auth: String,
    pub identity_token: String,
    pub registry_token: String,
}

#[derive(Debug, Clone, Default)]
pub struct FilesystemUsage {
    pub mountpoint: PathBuf,
    pub used_bytes: u64,
    pub inodes_used: u64,
}

#[derive(Debug, Clone, Default)]
pub struct ContainerStats {
    pub id: ContainerId,
    pub metadata: ContainerMetadata,
    pub labels: BTreeMap<String, String>,
    pub timestamp: UnixNanos,
    pub cpu_usage_nanos: u64,
    pub memory_usage: u64,
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub memory_page_faults: u64,
    pub memory_major_page_faults: u64,
    pub processes: u64,
}

/// What a directory tree takes on its disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    pub inodes: u64,
}

impl std::ops::AddAssign for DiskUsage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

#[derive(Debug, Clone, Default)]
pub struct RuntimeInfo {
    /// `knarr`, `containerd`, ...: the scheme of container ids (`knarr://<id>`).
    pub name: String,
    pub version: String,
    pub ready: bool,
    /// Why not ready.
    pub message: String,
    /// Handlers and whether they support recursive read-only mounts and user namespaces.
    pub handlers: Vec<(String, HandlerFeatures)>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct HandlerFeatures {
    pub recursive_read_only_mounts: bool,
    pub user_namespaces: bool,
}

/// A container runtime. All calls are idempotent where CRI says so: stopping what is stopped and removing what is
/// gone succeed. Calls may run concurrently for different sandboxes.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    async fn info(&self) -> Result<RuntimeInfo>;

    // Cgroups above containers. The kubelet owns their layout; the runtime owns writing it on v1 and v2.
    /// Creates or updates a cgroup (a QoS class's or a pod's).
    async fn apply_pod_cgroup(&self, cgroup: &str, resources: &Resources) -> Result<()>;
    /// Kills what is left in it and removes it.
    async fn remove_pod_cgroup(&self, cgroup: &str) -> Result<()>;
    /// Pod cgroups that exist below `parent`, for the removal of orphans.
    async fn list_pod_cgroups(&self, parent: &str) -> Result<Vec<String>>;
    /// Usage of a whole cgroup (`/`, a QoS class, a pod); ids and labels are left empty.
    async fn cgroup_stats(&self, cgroup: &str) -> Result<ContainerStats>;

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus>;
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    async fn sandbox_status(&self, id: &str) -> Result<SandboxStatus>;
    async fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>>;

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId>;
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Sends the stop signal, then SIGKILL after `grace`.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    async fn remove_container(&self, id: &str) -> Result<()>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    /// All containers, or those of one sandbox.
    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>>;
    async fn update_container_resources(&self, id: &str, resources: &Resources) -> Result<()>;
    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;
    /// What the container wrote into its own root. Looks at every file.
    async fn container_disk_usage(&self, id: &str) -> Result<DiskUsage>;
    /// The log file was renamed: open it anew.
    async fn reopen_container_log(&self, id: &str) -> Result<()>;
    /// Events from now on, as hints. The stream ends for who is too far behind to get them all: listen again, then look.
    async fn events(&self) -> Result<BoxStream<'static, ContainerEvent>>;

    /// Runs a command to its end; `timeout` of zero means none. Output is cut at 16 MiB.
    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecResult>;
    async fn exec(&self, id: &str, command: &[String], options: StreamOptions) -> Result<Streams>;
    async fn attach(&self, id: &str, options: StreamOptions) -> Result<Streams>;
    /// A TCP connection to `port` on the sandbox's loopback.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream>;

    async fn pull_image(&self, reference: &str, auth: Option<AuthConfig>) -> Result<ImageInfo>;
    async fn image_status(&self, reference: &str) -> Result<Option<ImageInfo>>;
    async fn list_images(&self) -> Result<Vec<ImageInfo>>;
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// Gives up what only makes builds faster, for its room on the disk.
    async fn forget_build_cache(&self) -> Result<()> {
        Ok(())
    }
    /// The directory images are in, on this machine.
    fn image_directory(&self) -> Option<PathBuf>;
    /// Where images and snapshots live and what they use.
    async fn image_filesystem(&self) -> Result<FilesystemUsage>;
}
