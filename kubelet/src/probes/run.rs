//! One probe of any kind, run once: where it goes and what its outcome means.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knarr_runtime::cri::ContainerRuntime;

use super::{exec, grpc, http, tcp, tls};
use crate::pod::environment;

/// How a probe went; texts are what events say.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Success,
    /// Passed, with something to say (a redirect to elsewhere).
    Warning(String),
    Failure(String),
    /// The probe could not be made at all.
    Error(String),
}

/// Probes that go over the network. The machine's are real connections; simulated nodes have their own.
#[async_trait]
pub trait Prober: Send + Sync + 'static {
    async fn http(&self, target: HttpTarget<'_>, timeout: Duration) -> Outcome;
    async fn tcp(&self, host: &str, port: u16, timeout: Duration) -> Outcome;
    async fn grpc(&self, target: GrpcTarget<'_>, timeout: Duration) -> Outcome;
}

/// An HTTP probe or hook with everything resolved.
#[derive(Debug, Clone, Copy)]
pub struct HttpTarget<'a> {
    pub host: &'a str,
    pub port: u16,
    pub action: &'a HTTPGetAction,
    /// `kube-probe/1.37` or `kube-lifecycle/1.37`.
    pub user_agent: &'a str,
}

/// A gRPC health check.
#[derive(Debug, Clone, Copy)]
pub struct GrpcTarget<'a> {
    pub host: &'a str,
    pub port: u16,
    pub service: &'a str,
    pub tls: bool,
}

/// Probes over the node's own network.
#[derive(Clone)]
pub struct NetworkProber {
    tls: Arc<rustls::ClientConfig>,
}

impl NetworkProber {
    pub fn new() -> Self {
        Self { tls: tls::unverified() }
    }
}

impl Default for NetworkProber {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Prober for NetworkProber {
    async fn http(&self, target: HttpTarget<'_>, timeout: Duration) -> Outcome {
        http::probe(target, &self.tls, timeout).await
    }

    async fn tcp(&self, host: &str, port: u16, timeout: Duration) -> Outcome {
        tcp::probe(host, port, timeout).await
    }

    async fn grpc(&self, target: GrpcTarget<'_>, timeout: Duration) -> Outcome {
        let tls = target.tls.then_some(&self.tls);
        grpc::probe(target.host, target.port, target.service, tls, timeout).await
    }
}

/// The container to probe.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub container: &'a Container,
    pub container_id: &'a str,
    pub pod_ip: Option<IpAddr>,
}

/// A probe's port: a number, or the name of one of the container's.
pub fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match named {
                Some(named) => Some(named.container_port),
                None => Some(
                    name.parse()
                        .map_err(|_| format!("couldn't find port: {name} in container {}", container.name))?,
                ),
            }
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("invalid port number: {}", number.unwrap_or_default()))
}

/// The host of an HTTP or TCP action: its own, or the pod's.
pub fn host_of(host: Option<&str>, pod_ip: Option<IpAddr>) -> String {
    host.filter(|host| !host.is_empty())
        .map_or_else(|| pod_ip.map(|ip| ip.to_string()).unwrap_or_default(), ToOwned::to_owned)
}

/// Runs the probe once.
pub async fn run(
    runtime: &dyn ContainerRuntime,
    prober: &dyn Prober,
    probe: &Probe,
    target: Target<'_>,
) -> Outcome {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
    if let Some(action) = &probe.exec {
        let command = environment::expand_static(
            action.command.as_deref().unwrap_or_default(),
            target.container.env.as_deref().unwrap_or_default(),
        );
        return exec::probe(runtime, target.container_id, &command, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        let port = match resolve_port(&action.port, target.container) {
            Ok(port) => port,
            Err(error) => return Outcome::Error(error),
        };
        let host = host_of(action.host.as_deref(), target.pod_ip);
        let target = HttpTarget { host: &host, port, action, user_agent: "kube-probe/1.37" };
        return prober.http(target, timeout).await;
    }
    if let Some(action) = &probe.tcp_socket {
        let host = host_of(action.host.as_deref(), target.pod_ip);
        return match resolve_port(&action.port, target.container) {
            Ok(port) => prober.tcp(&host, port, timeout).await,
            Err(error) => Outcome::Error(error),
        };
    }
    if let Some(GRPCAction { port, service, mode }) = &probe.grpc {
        let host = host_of(None, target.pod_ip);
        return match u16::try_from(*port) {
            Ok(port) => {
                let service = service.as_deref().unwrap_or_default();
                let tls = mode.as_deref() == Some("TLS");
                prober.grpc(GrpcTarget { host: &host, port, service, tls }, timeout).await
            }
            Err(_) => Outcome::Error(format!("invalid port number: {port}")),
        };
    }
    Outcome::Error(format!("missing probe handler for {}", target.container.name))
}
