//! What probe results mean for container statuses: `started` and `ready`.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodStatus};

use super::results::{ProbeKind, ProbeResult, ProbeResults};
use crate::pod::spec;

/// A container that ran this long before the agent started keeps the readiness it had.
const RESTART_GRACE_SECONDS: i64 = 10;

/// Results and the probes that exist, for one pod.
#[derive(Debug)]
pub struct ProbeView<'a> {
    pub results: &'a ProbeResults,
    /// Containers with a probe worker, by name.
    pub workers: HashSet<(String, ProbeKind)>,
    /// When the agent started, Unix seconds.
    pub agent_start: i64,
}

impl ProbeView<'_> {
    /// Fills in `started` and `ready` of all containers.
    pub fn fill(&self, pod: &Pod, status: &mut PodStatus) {
        for container in status.container_statuses.iter_mut().flatten() {
            let wanted = spec::containers(pod).iter().find(|c| c.name == container.name);
            self.fill_one(pod, wanted, container);
        }
        for container in status.init_container_statuses.iter_mut().flatten() {
            let wanted = spec::init_containers(pod).iter().find(|c| c.name == container.name);
            if wanted.is_some_and(spec::is_restartable_init) {
                self.fill_one(pod, wanted, container);
            } else {
                container.started = Some(self.started(container));
                let ended = container.state.as_ref().and_then(|s| s.terminated.as_ref());
                container.ready = ended.is_some_and(|t| t.exit_code == 0);
            }
        }
    }

    fn fill_one(&self, pod: &Pod, wanted: Option<&Container>, status: &mut ContainerStatus) {
        let started = self.started(status);
        status.started = Some(started);
        status.ready = started && self.ready(pod, wanted, status);
    }

    fn started(&self, status: &ContainerStatus) -> bool {
        if running_since(status).is_none() {
            return false;
        }
        match self.results.get(bare_id(status), ProbeKind::Startup) {
            Some(result) => result == ProbeResult::Success,
            // A restarted agent has no results yet: what was said before stands.
            None if status.started == Some(true) => true,
            None => !self.has_worker(status, ProbeKind::Startup),
        }
    }

    fn ready(&self, pod: &Pod, wanted: Option<&Container>, status: &ContainerStatus) -> bool {
        let Some(since) = running_since(status) else { return false };
        let result = self.results.get(bare_id(status), ProbeKind::Readiness);
        if result == Some(ProbeResult::Success) {
            return true;
        }
        let mut ready = !self.has_worker(status, ProbeKind::Readiness);
        if since < self.agent_start - RESTART_GRACE_SECONDS {
            ready |= result.is_none();
            if wanted.is_some_and(|c| c.readiness_probe.is_some()) && !was_ready(pod) {
                ready = false;
            }
        }
        ready
    }

    fn has_worker(&self, status: &ContainerStatus, kind: ProbeKind) -> bool {
        self.workers.contains(&(status.name.clone(), kind))
    }
}

fn running_since(status: &ContainerStatus) -> Option<i64> {
    let running = status.state.as_ref()?.running.as_ref()?;
    Some(running.started_at.as_ref().map_or(i64::MAX, |at| at.0.as_second()))
}

fn was_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The runtime's id, without the `runtime://` before it.
pub fn bare_id(status: &ContainerStatus) -> &str {
    let id = status.container_id.as_deref().unwrap_or_default();
    id.split_once("://").map_or(id, |(_, id)| id)
}
