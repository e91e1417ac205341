//! Starting one container: image, configuration, creation, start, postStart hook.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_client::events::EventType;
use knarr_runtime::cri::{self, ContainerState, SandboxStatus};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::actions::KillReason;
use super::container::{self, Plan};
use super::kill::{self, How};
use super::observed::{Observed, Seen};
use super::spec;
use crate::agent::Agent;
use crate::images::PullRequest;
use crate::images::secrets::Credentials;
use crate::logs;
use crate::volumes::Mounted;
use crate::volumes::manager::MountedVolumes;

/// Why a container does not run, in the words of its waiting state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct StartError {
    pub reason: &'static str,
    pub message: String,
    /// When another try makes sense, where that is known.
    pub retry: Option<Timestamp>,
}

impl StartError {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), retry: None }
    }

    pub fn retry_at(self, at: Timestamp) -> Self {
        Self { retry: Some(at), ..self }
    }
}

/// The id of a volume's image, once it has been brought.
type VolumeImage = Arc<OnceCell<Result<String, StartError>>>;

/// What all containers started in one sync share.
pub struct Starter<'a> {
    pub agent: &'a Agent,
    pub pod: &'a Pod,
    pub sandbox: &'a SandboxStatus,
    pub ips: &'a [IpAddr],
    pub observed: &'a Observed,
    pub volumes: &'a MountedVolumes,
    pub credentials: &'a Credentials,
    /// The pod is to end: stop waiting for pulls and hooks.
    pub cancelled: &'a CancellationToken,
    /// Images of volumes that this sync brings or has brought, by volume.
    pub volume_images: Mutex<HashMap<String, VolumeImage>>,
}

impl Starter<'_> {
    fn event(&self, container: &Container, kind: EventType, reason: &str, message: impl Into<String>) {
        self.agent.recorder.container(self.pod, &container.name, kind, reason, message);
    }

    fn failed(&self, container: &Container, error: StartError, shown: &str) -> StartError {
        self.event(container, EventType::Warning, "Failed", format!("Error: {shown}"));
        error
    }

    /// Starts the container; when it returns without error, the hook has run too.
    pub async fn start(&self, container: &Container, target: Option<&str>) -> Result<(), StartError> {
        let image = self.image(container).await?;
        let volumes = self.image_volumes(container).await?;
        self.remove_unstarted(container).await?;
        let attempt = self.attempt(container);
        let target = match target {
            None => None,
            Some(name) => Some(self.running_target(name).map_err(|message| {
                self.failed(container, StartError::new("CreateContainerConfigError", &*message), &message)
            })?),
        };
        let plan = Plan {
            pod: self.pod,
            container,
            attempt,
            image: &image,
            ips: self.ips,
            volumes: &volumes,
            target,
        };
        let config = container::config(self.agent, &plan).await.map_err(|message| {
            self.failed(container, StartError::new("CreateContainerConfigError", &*message), &message)
        })?;
        let created = self.agent.runtime.create_container(&self.sandbox.id, config).await;
        let id = created.map_err(|error| {
            let message = error.to_string();
            self.failed(container, StartError::new("CreateContainerError", &*message), &message)
        })?;
        self.event(container, EventType::Normal, "Created", "Container created");
        self.agent.allocations.started(self.pod, container);
        self.agent.runtime.start_container(&id).await.map_err(|error| {
            let message = error.to_string();
            self.failed(container, StartError::new("RunContainerError", &*message), &message)
        })?;
        self.event(container, EventType::Normal, "Started", "Container started");
        self.post_start(container, &id).await
    }

    async fn image(&self, container: &Container) -> Result<cri::ImageInfo, StartError> {
        let reference = container.image.as_deref().unwrap_or_default();
        self.ensure(container, reference, container.image_pull_policy.as_deref()).await
    }

    /// The pod's volumes, those that are images pulled and named by id.
    async fn image_volumes(&self, container: &Container) -> Result<MountedVolumes, StartError> {
        let wanted = spec::spec(self.pod).volumes.iter().flatten().filter_map(|volume| {
            let source = volume.image.as_ref()?;
            let mounted = container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
            let reference = source.reference.as_deref().filter(|_| mounted)?;
            Some((&volume.name, reference, source.pull_policy.as_deref()))
        });
        let brought = join_all(wanted.map(async |(name, reference, policy)| {
            (name, self.volume_image(container, name, reference, policy).await)
        }));
        let mut volumes = self.volumes.clone();
        for (name, image) in brought.await {
            volumes.insert(name.clone(), Mounted::Image { reference: image? });
        }
        Ok(volumes)
    }

    /// The id of a volume's image, brought once for all containers.
    async fn volume_image(
        &self,
        container: &Container,
        volume: &str,
        reference: &str,
        policy: Option<&str>,
    ) -> Result<String, StartError> {
        let cell = Arc::clone(self.volume_images.lock().entry(volume.to_owned()).or_default());
        let bring = async || self.ensure(container, reference, policy).await.map(|image| image.id);
        cell.get_or_init(bring).await.clone()
    }

    async fn ensure(
        &self,
        container: &Container,
        reference: &str,
        policy: Option<&str>,
    ) -> Result<cri::ImageInfo, StartError> {
        let request = PullRequest {
            pod: self.pod,
            about: spec::container_reference(self.pod, &container.name),
            reference,
            policy,
            credentials: self.credentials,
        };
        let ensured = tokio::select! {
            ensured = self.agent.images.ensure(request) => ensured,
            () = self.cancelled.cancelled() => {
                return Err(StartError::new("ErrImagePull", "pull canceled"));
            }
        };
        ensured.map_err(|error| {
            let reason = error.reason;
            self.failed(container, error, reason)
        })
    }

    /// A container that was made and never ran, because the agent died in between: the one made now takes its place,
    /// and nothing has been restarted.
    async fn remove_unstarted(&self, container: &Container) -> Result<(), StartError> {
        let Some(last) = self.observed.latest(&container.name).filter(|last| never_ran(last)) else {
            return Ok(());
        };
        self.agent.runtime.remove_container(&last.id).await.map_err(|error| {
            let message = error.to_string();
            self.failed(container, StartError::new("CreateContainerError", &*message), &message)
        })
    }

    /// One more than the last; log files of runs the runtime forgot count too.
    fn attempt(&self, container: &Container) -> u32 {
        if let Some(last) = self.observed.latest(&container.name) {
            let count = u32::try_from(last.restart_count).unwrap_or(0);
            return if never_ran(last) { count } else { count + 1 };
        }
        let known = self.agent.status.with(spec::uid(self.pod), |status| {
            let all = status
                .container_statuses
                .iter()
                .chain(&status.init_container_statuses)
                .chain(&status.ephemeral_container_statuses);
            let ran = all.flatten().find(|s| s.name == container.name && s.container_id.is_some());
            ran.map(|s| s.restart_count)
        });
        let Some(known) = known.flatten().and_then(|count| u32::try_from(count).ok()) else { return 0 };
        // The runtime forgot it, as when the machine was restarted. The API may have counted the loss already.
        logs::runs(&self.agent.pod_log_dir(self.pod).join(&container.name)).unwrap_or(known + 1)
    }

    fn running_target(&self, name: &str) -> Result<String, String> {
        let found = self.observed.latest(name).filter(|seen| seen.running());
        found.map(|seen| seen.id.clone()).ok_or_else(|| format!("unable to find target container {name}"))
    }

    async fn post_start(&self, container: &Container, id: &str) -> Result<(), StartError> {
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(());
        };
        let ip = self.ips.first().copied();
        let outcome = tokio::select! {
            outcome = self.agent.hooks.run(self.pod, container, id, ip, hook) => outcome,
            // The pod's termination ends the container itself.
            () = self.cancelled.cancelled() => return Ok(()),
        };
        let Err(message) = outcome else { return Ok(()) };
        self.event(container, EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        if let Ok(status) = self.agent.runtime.container_status(id).await {
            let how = How {
                message: "FailedPostStartHook",
                reason: KillReason::FailedPostStartHook,
                grace: None,
                ordering: None,
                shorter: None,
            };
            let killed = kill::container(self.agent, self.pod, self.observed, &Seen::new(status), how).await;
            if let Err(error) = killed {
                tracing::warn!(pod = spec::name(self.pod), %error, "cannot kill container after its postStart hook");
            }
        }
        Err(StartError::new("PostStartHookError", message))
    }
}

fn never_ran(seen: &Seen) -> bool {
    seen.state == ContainerState::Created
}
