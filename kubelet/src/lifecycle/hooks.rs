//! postStart and preStop hooks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Pod};
use knarr_runtime::cri::ContainerRuntime;

use crate::events::{Recorder, go_quote};
use crate::pod::spec;
use crate::probes::http::{self, HttpError, scheme_of, url_of};
use crate::probes::run::{HttpTarget, Outcome, Prober, host_of, resolve_port};
use crate::probes::tls;

/// Hooks have no timeout of their own; the pod's grace period or its deletion ends them.
const HTTP_TIMEOUT: Duration = Duration::from_secs(3600);

pub struct Hooks {
    runtime: Arc<dyn ContainerRuntime>,
    prober: Arc<dyn Prober>,
    recorder: Recorder,
    tls: Arc<rustls::ClientConfig>,
}

impl Hooks {
    pub fn new(runtime: Arc<dyn ContainerRuntime>, prober: Arc<dyn Prober>, recorder: Recorder) -> Self {
        Self { runtime, prober, recorder, tls: tls::unverified() }
    }

    /// Runs a hook to its end; the error is the message for the container's status.
    pub async fn run(
        &self,
        pod: &Pod,
        container: &Container,
        container_id: &str,
        pod_ip: Option<IpAddr>,
        hook: &LifecycleHandler,
    ) -> Result<(), String> {
        let place = || format!("for Container {:?} in Pod {}", container.name, go_quote(&spec::display(pod)));
        if let Some(action) = &hook.exec {
            let command = action.command.clone().unwrap_or_default();
            return self.exec(container_id, &command).await.map_err(|(error, output)| {
                format!(
                    "Exec lifecycle hook ([{}]) {} failed - error: {error}, message: {}",
                    command.join(" "),
                    place(),
                    go_quote(&output)
                )
            });
        }
        if let Some(action) = &hook.http_get {
            let path = action.path.clone().unwrap_or_default();
            return self.http(pod, container, pod_ip, action).await.map_err(|error| {
                format!("HTTP lifecycle hook ({path}) {} failed - error: {error}", place())
            });
        }
        if let Some(action) = &hook.sleep {
            tokio::time::sleep(Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0))).await;
            return Ok(());
        }
        if let Some(action) = &hook.tcp_socket {
            let host = host_of(action.host.as_deref(), pod_ip);
            let port = resolve_port(&action.port, container)?;
            return match self.prober.tcp(&host, port, HTTP_TIMEOUT).await {
                Outcome::Success | Outcome::Warning(_) => Ok(()),
                Outcome::Failure(error) | Outcome::Error(error) => {
                    Err(format!("TCP lifecycle hook {} failed - error: {error}", place()))
                }
            };
        }
        Err("Cannot run handler: invalid handler".to_owned())
    }

    async fn exec(&self, id: &str, command: &[String]) -> Result<(), (String, String)> {
        let result = self
            .runtime
            .exec_sync(id, command, Duration::ZERO)
            .await
            .map_err(|error| (error.to_string(), String::new()))?;
        if result.exit_code == 0 {
            return Ok(());
        }
        let mut output = result.stdout;
        output.extend_from_slice(&result.stderr);
        let error = format!("command '{}' exited with {}: ", command.join(" "), result.exit_code);
        Err((error, String::from_utf8_lossy(&output).into_owned()))
    }

    async fn http(
        &self,
        pod: &Pod,
        container: &Container,
        pod_ip: Option<IpAddr>,
        action: &HTTPGetAction,
    ) -> Result<(), String> {
        let host = host_of(action.host.as_deref(), pod_ip);
        let port = resolve_port(&action.port, container)?;
        let target = HttpTarget { host: &host, port, action, user_agent: "kube-lifecycle/1.37" };
        let url = url_of(&target, scheme_of(action));
        match http::get(&url, target, &self.tls, HTTP_TIMEOUT).await {
            Ok(_) => Ok(()),
            Err(HttpError::PlainAnswer) => {
                // Hooks written for upstream before 1.23 say HTTPS and serve HTTP.
                let plain = url_of(&target, "http");
                http::get(&plain, target, &self.tls, HTTP_TIMEOUT)
                    .await
                    .map_err(|error| error.to_string())?;
                self.recorder.warning(
                    spec::reference(pod),
                    "LifecycleHTTPFallback",
                    format!(
                        "request to HTTPS lifecycle hook {host}:{port} got HTTP response, retry with HTTP succeeded"
                    ),
                );
                Ok(())
            }
            Err(error) => Err(format!("Get \"{url}\": {error}")),
        }
    }
}
