//! Makes sure that an image is there before a container is made from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use knarr_api::time::SharedClock;
use knarr_runtime::cri::{self, AuthConfig, ContainerRuntime, ImageInfo};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::reference;
use super::secrets::Credentials;
use crate::events::{Recorder, go_duration};
use crate::pod::backoff::Backoff;
use crate::pod::spec;
use crate::pod::start::StartError;

const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// One container's wish for an image.
pub struct PullRequest<'a> {
    pub pod: &'a Pod,
    /// What events are about.
    pub about: Option<ObjectReference>,
    pub reference: &'a str,
    pub policy: Option<&'a str>,
    pub credentials: &'a Credentials,
}

pub struct ImageManager {
    runtime: Arc<dyn ContainerRuntime>,
    recorder: Recorder,
    clock: SharedClock,
    backoff: Mutex<Backoff>,
    /// The error of the last pull, by pod and image, shown while waiting.
    errors: Mutex<HashMap<(String, String), String>>,
    /// `None`: any number of pulls at once.
    slots: Option<Semaphore>,
}

impl ImageManager {
    pub fn new(
        runtime: Arc<dyn ContainerRuntime>,
        recorder: Recorder,
        clock: SharedClock,
        parallel: Option<usize>,
    ) -> Self {
        Self {
            runtime,
            recorder,
            clock,
            backoff: Mutex::new(Backoff::new(MAX_BACKOFF)),
            errors: Mutex::default(),
            slots: parallel.map(Semaphore::new),
        }
    }

    /// The image, pulled if the policy says so. Errors carry the reasons of waiting states.
    pub async fn ensure(&self, request: PullRequest<'_>) -> Result<ImageInfo, StartError> {
        let wanted = request.reference;
        let image = reference::with_default_tag(wanted).map_err(|why| {
            let message = format!(
                "Failed to apply default image tag {wanted:?}: couldn't parse image name {wanted:?}: {why}"
            );
            self.warn(&request, "InspectFailed", &message);
            StartError::new("InvalidImageName", message)
        })?;
        let policy = request.policy.unwrap_or_else(|| reference::default_policy(wanted));
        if policy != "Always" {
            let found = self.runtime.image_status(&image).await.map_err(|error| {
                let message = format!("Failed to inspect image {wanted:?}: {error}");
                self.warn(&request, "InspectFailed", &message);
                StartError::new("ImageInspectError", message)
            })?;
            if let Some(found) = found {
                let message = format!(
                    "Container image {wanted:?} already present on machine and can be accessed by the pod"
                );
                self.tell(&request, "Pulled", &message);
                return Ok(found);
            }
            if policy == "Never" {
                let message = format!("Container image {wanted:?} is not present with pull policy of Never");
                self.warn(&request, "ErrImageNeverPull", &message);
                return Err(StartError::new("ErrImageNeverPull", message));
            }
        }
        self.pull(&request, &image).await
    }

    async fn pull(&self, request: &PullRequest<'_>, image: &str) -> Result<ImageInfo, StartError> {
        let wanted = request.reference;
        let uid = spec::uid(request.pod);
        let (key, now) = (backoff_key(uid, wanted), self.clock.now());
        let slot = (uid.to_owned(), wanted.to_owned());
        if let Some((end, _)) = self.backoff.lock().waiting_since_update(&key, now) {
            let mut message = format!("Back-off pulling image {wanted:?}");
            self.tell(request, "BackOff", &message);
            if let Some(error) = self.errors.lock().get(&slot) {
                message = format!("{message}: {error}");
            }
            return Err(StartError::new("ImagePullBackOff", message).retry_at(end));
        }
        self.errors.lock().remove(&slot);
        self.tell(request, "Pulling", &format!("Pulling image {wanted:?}"));
        let asked = Instant::now();
        let _slot = match &self.slots {
            Some(slots) => slots.acquire().await.ok(),
            None => None,
        };
        let started = Instant::now();
        match self.pull_with(image, request.credentials.matching(image)).await {
            Ok(info) => {
                let message = format!(
                    "Successfully pulled image {wanted:?} in {} ({} including waiting). Image size: {} bytes.",
                    go_duration(whole_millis(started.elapsed())),
                    go_duration(whole_millis(asked.elapsed())),
                    info.size
                );
                self.tell(request, "Pulled", &message);
                self.backoff.lock().collect(now);
                Ok(info)
            }
            Err(error) => {
                self.warn(request, "Failed", &format!("Failed to pull image {wanted:?}: {error}"));
                let failed = explain(&error);
                self.errors.lock().insert(slot, format!("{}: {}", failed.reason, failed.message));
                let now = self.clock.now();
                let delay = self.backoff.lock().next(&key, now, now);
                // The error is shown for half of the wait; then that it waits.
                let shown = SignedDuration::try_from(delay / 2).unwrap_or(SignedDuration::ZERO);
                Err(failed.retry_at(now.checked_add(shown).unwrap_or(now)))
            }
        }
    }

    /// Tries each of the credentials until one works.
    async fn pull_with(&self, image: &str, credentials: Vec<AuthConfig>) -> cri::Result<ImageInfo> {
        let mut last = None;
        for auth in credentials {
            match self.runtime.pull_image(image, Some(auth)).await {
                Ok(info) => return Ok(info),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => self.runtime.pull_image(image, None).await,
        }
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &str) {
        self.errors.lock().retain(|(pod, _), _| pod != uid);
    }

    fn tell(&self, request: &PullRequest<'_>, reason: &str, message: &str) {
        if let Some(about) = &request.about {
            self.recorder.normal(about.clone(), reason, message);
        }
    }

    fn warn(&self, request: &PullRequest<'_>, reason: &str, message: &str) {
        if let Some(about) = &request.about {
            self.recorder.warning(about.clone(), reason, message);
        }
    }
}

fn backoff_key(uid: &str, image: &str) -> String {
    format!("{uid}_{image}")
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn explain(error: &cri::Error) -> StartError {
    let reason = match error {
        cri::Error::InvalidImageName { .. } => "InvalidImageName",
        _ => "ErrImagePull",
    };
    StartError::new(reason, error.to_string())
}
