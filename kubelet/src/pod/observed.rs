//! What the runtime says about one pod, and what we wrote on its containers so that a restarted agent knows them
//! again. Labels and annotations are upstream's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_runtime::cri::{self, ContainerState, ContainerStatus, SandboxState, SandboxStatus};

use super::spec;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
pub const POD_DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";
pub const POD_TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// The image's `repo@digest` as the status shows it; ours, CRI has a field for it.
pub const IMAGE_REF: &str = "knarr.io/image-ref";
/// Host file behind the termination message path; ours, CRI lists the mounts.
pub const TERMINATION_MESSAGE_FILE: &str = "knarr.io/termination-message-file";

/// One container as seen, live or dead.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub state: ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub restart_count: i32,
    /// Hash of name and image at creation: a different one now means "start it anew".
    pub hash: u64,
    pub image: String,
    pub image_ref: String,
    pub image_id: String,
    pub resources: Option<cri::Resources>,
    pub user: Option<cri::LinuxUser>,
    pub stop_signal: String,
}

impl Seen {
    /// Reads a runtime's answer. The termination message is filled in by whoever can read the host's files.
    pub fn new(status: ContainerStatus) -> Self {
        let note = |key: &str| status.annotations.get(key);
        let restart_count = note(RESTART_COUNT)
            .and_then(|count| count.parse().ok())
            .unwrap_or(i32::try_from(status.metadata.attempt).unwrap_or(i32::MAX));
        let hash = note(CONTAINER_HASH).and_then(|hash| u64::from_str_radix(hash, 16).ok()).unwrap_or(0);
        let image_ref = note(IMAGE_REF).cloned().unwrap_or_else(|| status.image_id.clone());
        Self {
            name: status.labels.get(CONTAINER_NAME).cloned().unwrap_or(status.metadata.name),
            id: status.id,
            sandbox_id: status.sandbox_id,
            state: status.state,
            created_at: status.created_at,
            started_at: status.started_at,
            finished_at: status.finished_at,
            exit_code: status.exit_code,
            reason: status.reason,
            message: status.message,
            restart_count,
            hash,
            image: status.image_reference,
            image_ref,
            image_id: status.image_id,
            resources: status.resources,
            user: status.user,
            stop_signal: status.stop_signal,
        }
    }

    pub fn running(&self) -> bool {
        self.state == ContainerState::Running
    }
}

/// Everything the runtime knows about one pod, newest first.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub ips: Vec<IpAddr>,
    pub sandboxes: Vec<SandboxStatus>,
    pub containers: Vec<Seen>,
}

impl Observed {
    pub fn new(ips: Vec<IpAddr>, mut sandboxes: Vec<SandboxStatus>, mut containers: Vec<Seen>) -> Self {
        sandboxes.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        containers.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Self { ips, sandboxes, containers }
    }

    /// The newest container of this name.
    pub fn latest(&self, name: &str) -> Option<&Seen> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub fn running(&self) -> impl Iterator<Item = &Seen> {
        self.containers.iter().filter(|c| c.running())
    }

    /// The sandbox containers are started in, when it is usable.
    pub fn ready_sandbox(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first().filter(|s| s.state == SandboxState::Ready)
    }
}

/// Whether the pod needs a (new) sandbox, the attempt it would be, and the newest sandbox there is.
pub fn sandbox_changed(pod: &Pod, observed: &Observed) -> (bool, u32, Option<String>) {
    let Some(newest) = observed.sandboxes.first() else { return (true, 0, None) };
    let ready = observed.sandboxes.iter().filter(|s| s.state == SandboxState::Ready).count();
    let lost_address = !spec::host_network(pod) && observed.ips.is_empty();
    if ready > 1 || newest.state != SandboxState::Ready || lost_address {
        return (true, newest.metadata.attempt + 1, Some(newest.id.clone()));
    }
    (false, newest.metadata.attempt, Some(newest.id.clone()))
}

/// Changes when a container must be started anew: its name or its image.
pub fn container_hash(container: &Container) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let image = container.image.as_deref().unwrap_or_default();
    for byte in container.name.bytes().chain([0]).chain(image.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Any regular container exists, running or not: init containers are done.
pub fn any_regular_created(pod: &Pod, observed: &Observed) -> bool {
    spec::containers(pod).iter().any(|c| {
        observed.latest(&c.name).is_some_and(|seen| {
            matches!(seen.state, ContainerState::Created | ContainerState::Running | ContainerState::Exited)
        })
    })
}

/// A regular container of the current sandbox has been started.
pub fn any_active_regular_started(pod: &Pod, observed: &Observed) -> bool {
    let Some(active) = observed.ready_sandbox() else { return false };
    spec::containers(pod).iter().any(|c| {
        observed.containers.iter().any(|seen| {
            seen.name == c.name
                && seen.sandbox_id == active.id
                && matches!(seen.state, ContainerState::Running | ContainerState::Exited)
        })
    })
}

/// Labels of a pod's sandbox: the pod's own, then ours.
pub fn sandbox_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity(pod));
    labels
}

pub fn container_labels(pod: &Pod, container: &str) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = identity(pod).into();
    labels.insert(CONTAINER_NAME.to_owned(), container.to_owned());
    labels
}

fn identity(pod: &Pod) -> [(String, String); 3] {
    [(POD_NAME, spec::name(pod)), (POD_NAMESPACE, spec::namespace(pod)), (POD_UID, spec::uid(pod))]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// Annotations of a container: what a later agent needs to judge and to stop it without the pod's spec.
pub fn container_annotations(
    pod: &Pod,
    container: &Container,
    restart_count: i32,
) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([
        (CONTAINER_HASH.to_owned(), format!("{:x}", container_hash(container))),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (TERMINATION_MESSAGE_PATH.to_owned(), container.termination_message_path.clone().unwrap_or_default()),
        (
            TERMINATION_MESSAGE_POLICY.to_owned(),
            container.termination_message_policy.clone().unwrap_or_default(),
        ),
    ]);
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        notes.insert(POD_DELETION_GRACE_PERIOD.to_owned(), grace.to_string());
    }
    if let Some(grace) = spec::spec(pod).termination_grace_period_seconds {
        notes.insert(POD_TERMINATION_GRACE_PERIOD.to_owned(), grace.to_string());
    }
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref())
        && let Ok(hook) = serde_json::to_string(hook)
    {
        notes.insert(PRE_STOP_HANDLER.to_owned(), hook);
    }
    notes
}
