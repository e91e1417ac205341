//! Reading a pod's spec: short names for what the API spells long.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, ObjectReference, Pod, PodSpec};

/// Annotation that says where a pod came from (`file` or `api`).
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of a static pod and its mirror: the hash of the manifest.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation only mirror pods carry.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as messages name a pod.
pub fn display(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// From a manifest on this node rather than from the API.
pub fn is_static(pod: &Pod) -> bool {
    !is_mirror(pod) && annotation(pod, CONFIG_SOURCE).is_some_and(|source| source != "api")
}

/// The API's picture of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, CONFIG_MIRROR).is_some()
}

pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn ephemeral_containers(pod: &Pod) -> &[EphemeralContainer] {
    spec(pod).ephemeral_containers.as_deref().unwrap_or_default()
}

/// A sidecar: an init container that runs beside the others for the pod's whole life.
pub fn is_restartable_init(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn has_restartable_init(pod: &Pod) -> bool {
    init_containers(pod).iter().any(is_restartable_init)
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

pub fn being_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// Succeeded or Failed, by what the API last said.
pub fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// An ephemeral container with the fields ordinary ones have.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        lifecycle: e.lifecycle,
        liveness_probe: e.liveness_probe,
        name: e.name,
        ports: e.ports,
        readiness_probe: e.readiness_probe,
        resize_policy: e.resize_policy,
        resources: e.resources,
        restart_policy: e.restart_policy,
        restart_policy_rules: e.restart_policy_rules,
        security_context: e.security_context,
        startup_probe: e.startup_probe,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_devices: e.volume_devices,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
    }
}

/// Which of the three lists a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Init,
    Regular,
    Ephemeral,
}

/// Finds a container by name in any of the three lists.
pub fn find_container(pod: &Pod, wanted: &str) -> Option<(Kind, Container)> {
    let in_list = |list: &[Container]| list.iter().find(|c| c.name == wanted).cloned();
    in_list(containers(pod))
        .map(|c| (Kind::Regular, c))
        .or_else(|| in_list(init_containers(pod)).map(|c| (Kind::Init, c)))
        .or_else(|| {
            ephemeral_containers(pod)
                .iter()
                .find(|c| c.name == wanted)
                .map(|c| (Kind::Ephemeral, as_container(c)))
        })
}

/// What events about a pod point at.
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// What events about one container point at; `None` for a container the pod does not have.
pub fn container_reference(pod: &Pod, container: &str) -> Option<ObjectReference> {
    let list = match find_container(pod, container)?.0 {
        Kind::Regular => "containers",
        Kind::Init => "initContainers",
        Kind::Ephemeral => "ephemeralContainers",
    };
    Some(ObjectReference { field_path: Some(format!("spec.{list}{{{container}}}")), ..reference(pod) })
}
