//! A container's security context: its own over its pod's, in the runtime's terms.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, Pod, SeccompProfile, SecurityContext};
use knarr_runtime::cri::{self, ImageInfo, NamespaceMode, Namespaces, Profile};

use super::spec;
use crate::events::go_quote;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Namespaces of the pod; `target` is the container an ephemeral one looks at.
pub fn namespaces(pod: &Pod, target: Option<&str>) -> Namespaces {
    let spec = spec::spec(pod);
    let node_or = |node: Option<bool>, other| if node.unwrap_or(false) { NamespaceMode::Node } else { other };
    let shared = spec.share_process_namespace.unwrap_or(false);
    let pid = node_or(spec.host_pid, if shared { NamespaceMode::Pod } else { NamespaceMode::Container });
    Namespaces {
        network: node_or(spec.host_network, NamespaceMode::Pod),
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod),
        pid: match target {
            Some(id) if pid == NamespaceMode::Container => NamespaceMode::Target(id.to_owned()),
            _ => pid,
        },
        user: None,
    }
}

/// The user the image asks for.
#[derive(Debug, Clone, Default)]
pub struct ImageUser {
    pub uid: Option<i64>,
    pub name: String,
}

impl ImageUser {
    /// An image that names nobody runs as root.
    pub fn of(image: &ImageInfo) -> Self {
        let uid = image.uid.or_else(|| image.username.is_empty().then_some(0));
        Self { uid, name: image.username.clone() }
    }
}

/// Refuses what `runAsNonRoot` forbids.
pub fn verify_non_root(pod: &Pod, container: &Container, image: &ImageUser) -> Result<(), String> {
    let of_pod = spec::spec(pod).security_context.as_ref();
    let own = container.security_context.as_ref();
    let required = own.and_then(|c| c.run_as_non_root).or_else(|| of_pod.and_then(|c| c.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let place = format!("(pod: {}, container: {})", go_quote(&spec::display(pod)), container.name);
    let user = own.and_then(|c| c.run_as_user).or_else(|| of_pod.and_then(|c| c.run_as_user));
    match (user, image.uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, None) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            image.name
        )),
        (None, Some(_)) => Ok(()),
    }
}

fn seccomp(profile: Option<&SeccompProfile>) -> Result<Profile, String> {
    let Some(profile) = profile else { return Ok(Profile::Unconfined) };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Profile::RuntimeDefault),
        "Localhost" => match profile.localhost_profile.as_deref().filter(|path| !path.is_empty()) {
            Some(path) => Ok(Profile::Localhost(path.to_owned())),
            None => Err("localhostProfile must be set if seccompProfile type is Localhost.".to_owned()),
        },
        _ => Ok(Profile::Unconfined),
    }
}

fn apparmor(profile: &AppArmorProfile) -> Result<Profile, String> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Profile::RuntimeDefault),
        "Unconfined" => Ok(Profile::Unconfined),
        "Localhost" => match profile.localhost_profile.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Ok(Profile::Localhost(name.to_owned())),
            None => Err("missing localhost apparmor profile name".to_owned()),
        },
        other => Err(format!("unknown apparmor profile type: {other:?}")),
    }
}

/// The container's own setting over the pod's over the image's.
pub fn context(
    pod: &Pod,
    container: &Container,
    image: &ImageUser,
    target: Option<&str>,
) -> Result<cri::SecurityContext, String> {
    let of_pod = spec::spec(pod).security_context.clone().unwrap_or_default();
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let unmasked = own.privileged.unwrap_or(false) || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| {
        if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() }
    };
    let groups =
        of_pod.fs_group.into_iter().chain(of_pod.supplemental_groups.into_iter().flatten()).collect();
    let armor = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref());
    Ok(cri::SecurityContext {
        namespaces: namespaces(pod, target),
        privileged: own.privileged.unwrap_or(false),
        run_as_user: run_as_user.or(image.uid),
        run_as_group: own.run_as_group.or(of_pod.run_as_group),
        run_as_username: if run_as_user.is_none() { image.name.clone() } else { String::new() },
        supplemental_groups: groups,
        supplemental_groups_strict: of_pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()))?),
        apparmor: armor.map(apparmor).transpose()?,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec};

    use super::*;

    #[test]
    fn root_is_refused_where_it_is_forbidden() {
        let mut pod = Pod {
            spec: Some(PodSpec {
                security_context: Some(PodSecurityContext {
                    run_as_non_root: Some(true),
                    ..PodSecurityContext::default()
                }),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        pod.metadata.name = Some("p".into());
        pod.metadata.namespace = Some("n".into());
        pod.metadata.uid = Some("u".into());
        let mut container = Container { name: "c".into(), ..Container::default() };
        let user = |uid, name: &str| ImageUser { uid, name: name.into() };
        let error = verify_non_root(&pod, &container, &user(Some(0), "")).expect_err("root");
        assert_eq!(
            error,
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(verify_non_root(&pod, &container, &user(None, "nginx")).is_err());
        assert!(verify_non_root(&pod, &container, &user(Some(7), "")).is_ok());
        container.security_context =
            Some(SecurityContext { run_as_user: Some(0), ..SecurityContext::default() });
        let error = verify_non_root(&pod, &container, &user(Some(7), "")).expect_err("root");
        assert!(error.starts_with("container's runAsUser breaks non-root policy"));
    }
}
