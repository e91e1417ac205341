//! A pod's sandbox: its configuration, its network, and looking at what is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use knarr_client::Api;
use knarr_network::pod::{AttachOptions, HostPort, PodIdentity, Protocol};
use knarr_runtime::cri::{self, IdMapping, Namespaces, SandboxConfig, SandboxMetadata, SandboxStatus};

use super::observed;
use super::users::UsersError;
use super::{dns, hosts, security, spec};
use crate::agent::Agent;
use crate::resources::cgroups;

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("rpc error: code = Unknown desc = failed to create pod sandbox: {0}")]
    Runtime(#[from] cri::Error),
    #[error("rpc error: code = Unknown desc = failed to setup network for sandbox \"{sandbox}\": {source}")]
    Network { sandbox: String, source: knarr_network::pod::Error },
    #[error("{0}")]
    Users(#[from] UsersError),
    #[error("{0}")]
    Invalid(String),
}

pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    if spec::host_network(pod) {
        return Vec::new();
    }
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_restartable_init(c));
    let ports = spec::containers(pod).iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
                container_port: u16::try_from(port.container_port).ok()?,
                host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()),
            })
        })
        .collect()
}

pub fn identity(pod: &Pod) -> PodIdentity {
    PodIdentity {
        namespace: spec::namespace(pod).to_owned(),
        name: spec::name(pod).to_owned(),
        uid: spec::uid(pod).to_owned(),
    }
}

async fn runtime_handler(agent: &Agent, pod: &Pod) -> Result<String, SandboxError> {
    let Some(class) = spec::spec(pod).runtime_class_name.as_deref().filter(|c| !c.is_empty()) else {
        return Ok(String::new());
    };
    let api: Api<RuntimeClass> = Api::all(agent.client.clone());
    let found = api
        .get_opt(class)
        .await
        .map_err(|e| SandboxError::Invalid(format!("failed to get RuntimeClass {class:?}: {e}")))?;
    found
        .map(|class| class.handler)
        .ok_or_else(|| SandboxError::Invalid(format!("RuntimeClass {class:?} not found")))
}

/// Ids of the pod's own, if it asks for them. Running it as the node's users instead would be worse than not running
/// it.
async fn users(agent: &Agent, pod: &Pod, handler: &str) -> Result<Option<IdMapping>, SandboxError> {
    if spec::spec(pod).host_users != Some(false) {
        return Ok(None);
    }
    let info = agent.runtime.info().await?;
    if info.handlers.iter().any(|(name, features)| name == handler && features.user_namespaces) {
        return Ok(Some(agent.users.assign(spec::uid(pod))?));
    }
    let who = match handler {
        "" => "runtime".to_owned(),
        handler => format!("RuntimeClass handler {handler:?}"),
    };
    Err(SandboxError::Invalid(format!(
        "can't set `spec.hostUsers: false`, {who} does not support user namespaces"
    )))
}

async fn config(agent: &Agent, pod: &Pod, attempt: u32) -> Result<SandboxConfig, SandboxError> {
    let handler = runtime_handler(agent, pod).await?;
    let users = users(agent, pod, &handler).await?;
    let cluster = dns::Cluster { servers: &agent.config.cluster_dns, domain: &agent.config.cluster_domain };
    let (dns, warnings) = dns::config(pod, &agent.dns, cluster);
    for (reason, message) in warnings {
        agent.recorder.warning(spec::reference(pod), reason, message);
    }
    let hostname = if spec::host_network(pod) {
        agent.config.node_name.clone()
    } else {
        hosts::kernel_hostname(pod, &agent.config.cluster_domain).map_err(SandboxError::Invalid)?
    };
    let sysctls = spec::spec(pod).security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    let sysctls: BTreeMap<String, String> =
        sysctls.into_iter().flatten().map(|s| (s.name.replace('/', "."), s.value.clone())).collect();
    Ok(SandboxConfig {
        metadata: SandboxMetadata {
            name: spec::name(pod).to_owned(),
            namespace: spec::namespace(pod).to_owned(),
            uid: spec::uid(pod).to_owned(),
            attempt,
        },
        hostname,
        log_directory: agent.pod_log_dir(pod),
        dns: Some(dns),
        labels: observed::sandbox_labels(pod),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        namespaces: Namespaces { user: users, ..security::namespaces(pod, None) },
        sysctls,
        cgroup_parent: cgroups::of_pod(&agent.config.cgroup_root, pod),
        runtime_handler: handler,
    })
}

/// Makes the sandbox and gives it its network. A sandbox that cannot be connected is taken away again.
pub async fn create(
    agent: &Agent,
    pod: &Pod,
    attempt: u32,
) -> Result<(SandboxStatus, Vec<IpAddr>), SandboxError> {
    let status = agent.runtime.run_sandbox(config(agent, pod, attempt).await?).await?;
    let (Some(network), Some(netns)) = (&agent.network, &status.netns) else {
        let ips = status.ips.clone();
        return Ok((status, ips));
    };
    let options = AttachOptions { host_ports: host_ports(pod) };
    match network.attach(netns, &identity(pod), &options).await {
        Ok(addresses) => Ok((status, addresses.ips)),
        Err(source) => {
            let sandbox = status.id.clone();
            for undo in
                [agent.runtime.stop_sandbox(&sandbox).await, agent.runtime.remove_sandbox(&sandbox).await]
            {
                if let Err(error) = undo {
                    tracing::warn!(%sandbox, %error, "cannot take away a sandbox without network");
                }
            }
            Err(SandboxError::Network { sandbox, source })
        }
    }
}

/// Stops a sandbox and gives back its addresses.
pub async fn stop(agent: &Agent, sandbox: &SandboxStatus) -> Result<(), SandboxError> {
    match agent.runtime.stop_sandbox(&sandbox.id).await {
        Ok(()) | Err(cri::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(network) = &agent.network {
        network
            .detach(&sandbox.metadata.uid)
            .await
            .map_err(|source| SandboxError::Network { sandbox: sandbox.id.clone(), source })?;
    }
    Ok(())
}
