//! Ending containers: hooks first, then the stop signal, within the grace period that applies.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_client::events::EventType;
use knarr_runtime::cri;
use tokio::sync::watch;
use tokio::time::Instant;

use super::actions::KillReason;
use super::observed::{Observed, Seen};
use super::ordering::Ordering;
use super::sandbox::{self, SandboxError};
use super::spec;
use crate::agent::Agent;

/// Between the stop signal and SIGKILL, whatever the pod says.
const MINIMUM_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum KillError {
    #[error("cannot stop container {container}: {source}")]
    Container { container: String, source: cri::Error },
    #[error("cannot stop sandbox {sandbox}: {source}")]
    Sandbox { sandbox: String, source: SandboxError },
}

/// The grace period of one container, before anyone shortens it.
pub fn grace(pod: &Pod, container: Option<&Container>, reason: KillReason) -> Duration {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    if let Some(grace) = pod.metadata.deletion_grace_period_seconds {
        return seconds(grace);
    }
    let Some(of_pod) = spec::spec(pod).termination_grace_period_seconds else { return MINIMUM_GRACE };
    let probe = match reason {
        KillReason::StartupProbe => container.and_then(|c| c.startup_probe.as_ref()),
        KillReason::LivenessProbe => container.and_then(|c| c.liveness_probe.as_ref()),
        KillReason::FailedPostStartHook | KillReason::Other => None,
    };
    seconds(probe.and_then(|probe| probe.termination_grace_period_seconds).unwrap_or(of_pod))
}

/// How a container is ended.
#[derive(Clone, Copy)]
pub struct How<'a> {
    pub message: &'a str,
    pub reason: KillReason,
    /// Instead of what the spec says.
    pub grace: Option<Duration>,
    pub ordering: Option<&'a Ordering>,
    /// Grace periods shortened on the way.
    pub shorter: Option<&'a watch::Receiver<Option<Duration>>>,
}

/// Ends one container; returns when it has ended.
pub async fn container(
    agent: &Agent,
    pod: &Pod,
    observed: &Observed,
    seen: &Seen,
    how: How<'_>,
) -> Result<(), KillError> {
    let wanted = spec::find_container(pod, &seen.name).map(|(_, container)| container);
    let stopping = format!("Stopping container {}", seen.name);
    let message = if how.message.is_empty() { &stopping } else { how.message };
    agent.recorder.container(pod, &seen.name, EventType::Normal, "Killing", message);
    let mut left = how.grace.unwrap_or_else(|| grace(pod, wanted.as_ref(), how.reason));
    let start = Instant::now();
    if let Some(container) = wanted.as_ref().filter(|_| !left.is_zero()) {
        pre_stop(agent, pod, observed, seen, container, left, how.shorter).await;
        left = left.saturating_sub(start.elapsed());
    }
    if let Some(ordering) = how.ordering {
        left = left.saturating_sub(ordering.wait_for_turn(&seen.name, left).await);
    }
    let stopped = stop(agent, &seen.id, left.max(MINIMUM_GRACE), how.shorter).await;
    match stopped {
        Ok(()) | Err(cri::Error::NotFound { .. }) => {
            if let Some(ordering) = how.ordering {
                ordering.ended(&seen.name);
            }
            Ok(())
        }
        Err(source) => Err(KillError::Container { container: seen.name.clone(), source }),
    }
}

async fn pre_stop(
    agent: &Agent,
    pod: &Pod,
    observed: &Observed,
    seen: &Seen,
    container: &Container,
    grace: Duration,
    shorter: Option<&watch::Receiver<Option<Duration>>>,
) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else { return };
    let ip = observed.ips.first().copied();
    tokio::select! {
        outcome = agent.hooks.run(pod, container, &seen.id, ip, hook) => {
            if let Err(error) = outcome {
                tracing::warn!(pod = spec::name(pod), container = seen.name, %error, "PreStop hook failed");
                // What the hook printed may be secret: not for events.
                let message = "PreStopHook failed";
                agent.recorder.container(pod, &seen.name, EventType::Warning, "FailedPreStopHook", message);
            }
        }
        () = over(grace, shorter) => {
            tracing::info!(pod = spec::name(pod), container = seen.name, "PreStop hook not completed in grace period");
        }
    }
}

/// Returns when the grace period is over: this one, or a shorter one that is told on the way.
async fn over(grace: Duration, shorter: Option<&watch::Receiver<Option<Duration>>>) {
    let mut end = Instant::now() + grace;
    let Some(shorter) = shorter else { return tokio::time::sleep_until(end).await };
    let mut shorter = shorter.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(end) => return,
            changed = shorter.changed() => {
                if changed.is_err() {
                    return tokio::time::sleep_until(end).await;
                }
                let sooner = *shorter.borrow_and_update();
                end = sooner.map_or(end, |sooner| end.min(Instant::now() + sooner));
            }
        }
    }
}

/// Stops the container; a grace period that arrives meanwhile and ends sooner replaces the one under way.
async fn stop(
    agent: &Agent,
    id: &str,
    grace: Duration,
    shorter: Option<&watch::Receiver<Option<Duration>>>,
) -> cri::Result<()> {
    let mut end = Instant::now() + grace;
    let mut stopping = agent.runtime.stop_container(id, grace);
    let Some(shorter) = shorter else { return stopping.await };
    let mut shorter = shorter.clone();
    loop {
        tokio::select! {
            stopped = &mut stopping => return stopped,
            changed = shorter.changed() => {
                if changed.is_err() {
                    return stopping.await;
                }
                let Some(sooner) = *shorter.borrow_and_update() else { continue };
                let sooner = sooner.max(MINIMUM_GRACE);
                if Instant::now() + sooner < end {
                    end = Instant::now() + sooner;
                    stopping = agent.runtime.stop_container(id, sooner);
                }
            }
        }
    }
}

/// Ends all running containers at once (sidecars last) and then the sandboxes.
pub async fn pod(
    agent: &Agent,
    pod: &Pod,
    observed: &Observed,
    grace: Option<Duration>,
    shorter: Option<&watch::Receiver<Option<Duration>>>,
) -> Result<(), KillError> {
    let alive: Vec<&Seen> = observed
        .containers
        .iter()
        .filter(|c| matches!(c.state, cri::ContainerState::Running | cri::ContainerState::Unknown))
        .collect();
    if let Some(network) = agent.network.as_ref().filter(|_| !alive.is_empty()) {
        // New connections go elsewhere before a server hears that it must stop.
        network.withdraw(spec::uid(pod)).await;
    }
    let names: Vec<&str> = alive.iter().map(|c| c.name.as_str()).collect();
    let ordering = spec::has_restartable_init(pod).then(|| Ordering::new(pod, &names));
    let how = How { message: "", reason: KillReason::Other, grace, ordering: ordering.as_ref(), shorter };
    let ended = join_all(alive.into_iter().map(|seen| container(agent, pod, observed, seen, how))).await;
    ended.into_iter().collect::<Result<(), _>>()?;
    for found in &observed.sandboxes {
        sandbox::stop(agent, found)
            .await
            .map_err(|source| KillError::Sandbox { sandbox: found.id.clone(), source })?;
    }
    Ok(())
}
