//! Why a container that is to be started is not started yet: it crashed too often, or its image could not be pulled.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use knarr_client::events::EventType;
use knarr_runtime::cri::ContainerState;

use super::observed::Seen;
use super::spec;
use super::start::{StartError, Starter};
use super::worker::Worker;
use crate::events::go_duration;

/// A container that could not be started is tried again after this, where nothing happens before.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// A failed pull that the status shows until `until`.
pub(super) struct PullError {
    /// Another image is another story.
    image: Option<String>,
    until: Timestamp,
}

impl Worker {
    /// Until when the container keeps showing that its pull failed. Without this the next sync, moments later, would
    /// say that it waits, and nobody would see why.
    pub(super) fn showing_pull_error(&mut self, container: &Container) -> Option<Timestamp> {
        let shown = self.pull_errors.get(&container.name)?;
        if shown.image == container.image && self.agent.now() < shown.until {
            return Some(shown.until);
        }
        self.pull_errors.remove(&container.name);
        None
    }

    /// Keeps what is wrong for the status, and says when to try again.
    pub(super) fn note_failure(&mut self, container: &Container, error: StartError) -> Timestamp {
        let now = self.agent.now();
        let soon = now.checked_add(RETRY).unwrap_or(Timestamp::MAX);
        let until = error.retry.unwrap_or(soon).min(soon);
        if error.retry.is_some() && error.reason != "ImagePullBackOff" {
            let shown = PullError { image: container.image.clone(), until };
            self.pull_errors.insert(container.name.clone(), shown);
        }
        self.failures.insert(container.name.clone(), (error.reason, error.message));
        until
    }

    /// When the container may start again, if it has crashed and has to wait.
    pub(super) fn crash_loop(&mut self, starter: &Starter<'_>, container: &Container) -> Option<Timestamp> {
        let exited = |c: &&Seen| c.name == container.name && c.state == ContainerState::Exited;
        let last = starter.observed.containers.iter().find(exited)?;
        let finished = Timestamp::from_nanosecond(i128::from(last.finished_at)).ok()?;
        let now = self.agent.now();
        let key = restart_key(container);
        let Some((until, delay)) = self.restarts.waiting(&key, finished, now) else {
            self.restarts.next(&key, finished, now);
            return None;
        };
        let pod = spec::display(starter.pod);
        let name = &container.name;
        self.agent.recorder.container(
            starter.pod,
            name,
            EventType::Warning,
            "BackOff",
            format!("Back-off restarting failed container {name} in pod {pod}"),
        );
        let delay = go_duration(delay);
        let message = format!("back-off {delay} restarting failed container={name} pod={pod}");
        self.failures.insert(name.clone(), ("CrashLoopBackOff", message));
        Some(until)
    }
}

/// Another image or other resources give a crashing container a fresh start.
fn restart_key(container: &Container) -> String {
    let resources = container.resources.as_ref().map(|r| format!("{r:?}")).unwrap_or_default();
    format!("{}/{}/{resources}", container.name, container.image.as_deref().unwrap_or_default())
}
