//! The runtime's configuration of one container.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use knarr_runtime::cri::{ContainerConfig, ContainerMetadata, Device, ImageInfo, Mount, Propagation};

use super::environment::{self, Source, services};
use super::{hosts, observed, security, spec};
use crate::agent::Agent;
use crate::resources::container as resources;
use crate::volumes::manager::MountedVolumes;
use crate::volumes::{self, Mounted, VolumeError, subpath};

/// One start of one container.
pub struct Plan<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub attempt: u32,
    pub image: &'a ImageInfo,
    pub ips: &'a [IpAddr],
    pub volumes: &'a MountedVolumes,
    /// Container an ephemeral one looks at.
    pub target: Option<String>,
}

/// `<container>/<attempt>.log`, below the pod's log directory.
pub fn log_path(container: &str, attempt: u32) -> PathBuf {
    PathBuf::from(container).join(format!("{attempt}.log"))
}

/// The host's file behind a container's termination message.
pub fn message_file(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(attempt.to_string())
}

/// How the status names the image: by digest where it has one.
pub fn image_ref(image: &ImageInfo) -> String {
    image.repo_digests.first().unwrap_or(&image.id).clone()
}

/// Builds the configuration; messages are what CreateContainerConfigError shows.
pub async fn config(agent: &Agent, plan: &Plan<'_>) -> Result<ContainerConfig, String> {
    let (pod, container) = (plan.pod, plan.container);
    let user = security::ImageUser::of(plan.image);
    let env = environment(agent, plan).await?;
    security::verify_non_root(pod, container, &user)?;
    let node = resources::Node {
        memory_capacity: agent.machine.memory_bytes,
        enforce_quota: agent.config.cpu_cfs_quota,
        period: agent.config.cpu_cfs_quota_period,
    };
    let mut annotations =
        observed::container_annotations(pod, container, i32::try_from(plan.attempt).unwrap_or(i32::MAX));
    annotations.insert(observed::IMAGE_REF.to_owned(), image_ref(plan.image));
    let (mut mounts, devices) = mounts(agent, plan, &env).await?;
    if agent.config.host
        && let Some(path) = container.termination_message_path.as_deref().filter(|path| !path.is_empty())
    {
        let file = message_file(&agent.config.pod_dir(spec::uid(pod)), &container.name, plan.attempt);
        make_message_file(&file).map_err(|error| format!("create termination message file: {error}"))?;
        annotations.insert(observed::TERMINATION_MESSAGE_FILE.to_owned(), file.display().to_string());
        mounts.push(Mount { container_path: path.to_owned(), host_path: file, ..Mount::default() });
    }
    Ok(ContainerConfig {
        metadata: ContainerMetadata { name: container.name.clone(), attempt: plan.attempt },
        image: plan.image.id.clone(),
        image_reference: container.image.clone().unwrap_or_default(),
        command: environment::expand_all(container.command.as_deref().unwrap_or_default(), &env),
        args: environment::expand_all(container.args.as_deref().unwrap_or_default(), &env),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        env,
        mounts,
        devices,
        labels: observed::container_labels(pod, &container.name),
        annotations,
        log_path: log_path(&container.name, plan.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        resources: resources::resources(pod, container, node),
        security: security::context(pod, container, &user, plan.target.as_deref())?,
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
    })
}

async fn environment(agent: &Agent, plan: &Plan<'_>) -> Result<Vec<(String, String)>, String> {
    let links = spec::spec(plan.pod).enable_service_links.unwrap_or(true);
    let services = match &agent.services {
        Some(informer) if !informer.has_synced() && !spec::is_static(plan.pod) => {
            return Err(environment::EnvironmentError::ServicesNotRead.to_string());
        }
        Some(informer) => {
            let namespace = spec::namespace(plan.pod);
            let visible = informer.filter(|service| services::visible(service, namespace, links));
            services::variables(visible.iter().map(|service| &**service))
        }
        None => Default::default(),
    };
    let pod_ips = if spec::host_network(plan.pod) { agent.host_ips() } else { plan.ips };
    let source = Source {
        objects: &agent.objects,
        services,
        allocatable: &agent.allocatable,
        pod_ips,
        host_ips: agent.host_ips(),
        node_name: &agent.config.node_name,
        volumes: plan.volumes,
    };
    environment::build(plan.pod, plan.container, &source).await.map_err(|error| error.to_string())
}

fn make_message_file(file: &Path) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o666).open(file)?;
    // Any user of the container may write it, whatever the umask.
    opened.set_permissions(fs::Permissions::from_mode(0o666))
}

fn propagation(mode: Option<&str>) -> Result<Propagation, String> {
    match mode {
        None | Some("None") => Ok(Propagation::Private),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") => Ok(Propagation::Bidirectional),
        Some(other) => Err(format!("invalid MountPropagation mode: {other:?}")),
    }
}

/// The subPath of a mount, `subPathExpr` expanded.
fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<String, String> {
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) else {
        return Ok(mount.sub_path.clone().unwrap_or_default());
    };
    let missing = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let lookup = |name: &str| {
        let value = env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        if value.as_ref().is_none_or(String::is_empty) {
            missing.borrow_mut().insert(name.to_owned());
        }
        value
    };
    let expanded = environment::expand(expression, &lookup);
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    if missing.is_empty() { Ok(expanded) } else { Err(format!("missing value for {}", missing.join(", "))) }
}

async fn mounts(
    agent: &Agent,
    plan: &Plan<'_>,
    env: &[(String, String)],
) -> Result<(Vec<Mount>, Vec<Device>), String> {
    let container = plan.container;
    let mut out = Vec::new();
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let missing =
            || format!("cannot find volume {:?} to mount into container {:?}", wanted.name, container.name);
        let volume = plan.volumes.get(&wanted.name).ok_or_else(missing)?;
        let sub_path = sub_path(wanted, env)?;
        subpath::check(&sub_path).map_err(|error| error.to_string())?;
        let read_only = wanted.read_only.unwrap_or(false);
        let mut mount = Mount {
            container_path: absolute(&wanted.mount_path),
            readonly: read_only,
            recursive_read_only: read_only
                && matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
            propagation: propagation(wanted.mount_propagation.as_deref())?,
            ..Mount::default()
        };
        match volume {
            Mounted::Path { path, read_only } => {
                mount.readonly |= *read_only;
                mount.host_path = if sub_path.is_empty() || !agent.config.host {
                    path.clone()
                } else {
                    bind_sub_path(agent, plan, wanted, index, path.clone(), sub_path).await?
                };
            }
            Mounted::Image { reference } => {
                mount.readonly = true;
                mount.image = Some(reference.clone());
                mount.image_sub_path = sub_path;
            }
            Mounted::Device { .. } => return Err(missing()),
        }
        out.push(mount);
    }
    if agent.config.host && wants_hosts_file(plan) {
        let pod_dir = agent.config.pod_dir(spec::uid(plan.pod));
        let host_path = hosts::write(plan.pod, &pod_dir, plan.ips, &agent.config.cluster_domain)
            .map_err(|error| format!("write hosts file: {error}"))?;
        out.push(Mount { container_path: hosts::ETC_HOSTS.to_owned(), host_path, ..Mount::default() });
    }
    Ok((out, devices(plan)?))
}

fn wants_hosts_file(plan: &Plan<'_>) -> bool {
    let own = plan.container.volume_mounts.iter().flatten().any(|m| m.mount_path == hosts::ETC_HOSTS);
    !own && (!plan.ips.is_empty() || spec::host_network(plan.pod))
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn devices(plan: &Plan<'_>) -> Result<Vec<Device>, String> {
    let wanted = plan.container.volume_devices.iter().flatten();
    wanted
        .map(|device| match plan.volumes.get(&device.name) {
            Some(Mounted::Device { path, read_only }) => Ok(Device {
                container_path: device.device_path.clone(),
                host_path: path.display().to_string(),
                permissions: if *read_only { "r" } else { "rwm" }.to_owned(),
            }),
            _ => Err(format!(
                "cannot find volume {:?} to pass into container {:?}",
                device.name, plan.container.name
            )),
        })
        .collect()
}

async fn bind_sub_path(
    agent: &Agent,
    plan: &Plan<'_>,
    wanted: &VolumeMount,
    index: usize,
    volume: PathBuf,
    sub_path: String,
) -> Result<PathBuf, String> {
    let pod_dir = agent.config.pod_dir(spec::uid(plan.pod));
    let target = subpath::target(&pod_dir, &wanted.name, &plan.container.name, index);
    let at = target.clone();
    let bound: Result<(), VolumeError> =
        volumes::blocking("bind subPath", move || subpath::bind(&volume, &sub_path, &at)).await;
    bound.map(|()| target).map_err(|error| {
        // The node's file system is none of the user's business.
        tracing::warn!(pod = spec::name(plan.pod), volume = wanted.name, %error, "cannot prepare subPath");
        format!(
            "failed to prepare subPath for volumeMount {:?} of container {:?}",
            wanted.name, plan.container.name
        )
    })
}
