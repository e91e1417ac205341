//! Giving running containers other amounts of CPU and memory. A pod's cgroup is widened before its containers and
//! narrowed after them, so that none of them is ever outside of it; memory before CPU, less before more.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_runtime::cri::{self, Resources};

use super::actions::{self, Actions};
use super::observed::{Observed, Seen};
use super::spec;
use super::worker::Worker;
use crate::resize::Amounts;
use crate::resize::messages;
use crate::resize::values::{self, Change, Values};
use crate::resources::cgroups;
use crate::resources::container as sizes;

#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    #[error("cannot decrease memory limits: {0}")]
    BelowUsage(String),
    #[error("{0}")]
    Runtime(#[from] cri::Error),
}

/// One container under change.
struct Update<'a> {
    id: &'a str,
    container: Container,
    now: Values,
    wanted: Values,
}

impl Worker {
    /// Says whether what is allocated is in force, before the status is told.
    pub(super) fn follow_resize(&self, pod: &Arc<Pod>, observed: &Observed) {
        let agent = &self.agent;
        if in_progress(pod, observed, &agent.allocations.actuated(spec::uid(pod))) {
            agent.resizes.set_in_progress(pod, None, &Time(agent.now()));
        } else if let Some(generation) = agent.resizes.clear_in_progress(spec::uid(pod)) {
            let message = messages::completed(pod, generation);
            agent.recorder.normal(spec::reference(pod), "ResizeCompleted", message);
        }
    }

    /// Does what `actions` say about resources; `true` when something changed. An error is told in the pod's status.
    pub(super) async fn resize(&self, pod: &Arc<Pod>, actions: &Actions) -> Result<bool, ResizeError> {
        if actions.to_resize.is_empty() && !actions.resize_pod {
            return Ok(false);
        }
        let outcome = self.actuate(pod, actions).await;
        if let Err(error) = &outcome {
            let (agent, text) = (&self.agent, error.to_string());
            let now = Time(agent.now());
            if let Some(generation) = agent.resizes.set_in_progress(pod, Some(text.clone()), &now) {
                let message = messages::failed(pod, generation, &text);
                agent.recorder.warning(spec::reference(pod), "ResizeError", message);
            }
        }
        outcome.map(|()| true)
    }

    async fn actuate(&self, pod: &Arc<Pod>, actions: &Actions) -> Result<(), ResizeError> {
        let agent = &self.agent;
        let uid = spec::uid(pod);
        let actuated = agent.allocations.actuated(uid);
        let mut updates = updates(pod, actions, &actuated);
        let before = cgroups::pod_resources(&agent.config, &agent.allocations.as_actuated(pod));
        let after = cgroups::pod_resources(&agent.config, pod);
        self.check_usage(pod, &before, &after, &updates).await?;
        let cgroup = cgroups::of_pod(&agent.config.cgroup_root, pod);
        let widest = widest(&before, &after);
        if widest != before {
            agent.runtime.apply_pod_cgroup(&cgroup, &widest).await?;
        }
        updates.sort_by_key(|u| u.wanted.memory_limit > u.now.memory_limit);
        for update in updates.iter().filter(|u| u.wanted.memory_limit != u.now.memory_limit) {
            let memory = Resources { memory_limit: update.wanted.memory_limit, ..Resources::default() };
            agent.runtime.update_container_resources(update.id, &memory).await?;
        }
        for update in &updates {
            agent.allocations.resized(uid, &update.container, "memory");
        }
        agent.allocations.resized_pod(pod, "memory");
        updates.sort_by_key(|u| u.wanted.cpu_limit > u.now.cpu_limit);
        for update in &updates {
            agent.runtime.update_container_resources(update.id, &self.cpu_of(pod, update)).await?;
            agent.allocations.resized(uid, &update.container, "cpu");
        }
        agent.allocations.resized_pod(pod, "cpu");
        if after != widest {
            agent.runtime.apply_pod_cgroup(&cgroup, &after).await?;
        }
        agent.weigh_burstable(agent.burstable.add(pod)).await;
        Ok(())
    }

    fn cpu_of(&self, pod: &Pod, update: &Update<'_>) -> Resources {
        let node = sizes::Node {
            memory_capacity: self.agent.machine.memory_bytes,
            enforce_quota: self.agent.config.cpu_cfs_quota,
            period: self.agent.config.cpu_cfs_quota_period,
        };
        let all = sizes::resources(pod, &update.container, node);
        Resources {
            cpu_shares: all.cpu_shares,
            cpu_quota: all.cpu_quota,
            cpu_period: all.cpu_period,
            ..Resources::default()
        }
    }

    /// A limit below what is in use would end the container, which nobody asked for.
    async fn check_usage(
        &self,
        pod: &Pod,
        before: &Resources,
        after: &Resources,
        updates: &[Update<'_>],
    ) -> Result<(), ResizeError> {
        let (agent, mut errors) = (&self.agent, Vec::new());
        if decreases(before.memory_limit, after.memory_limit) {
            let cgroup = cgroups::of_pod(&agent.config.cgroup_root, pod);
            let used = agent.runtime.cgroup_stats(&cgroup).await?.memory_usage;
            if below(after.memory_limit, used) {
                let limit = after.memory_limit;
                errors.push(format!(
                    "attempting to set pod memory limit ({limit}) below current usage ({used})"
                ));
            }
        }
        for update in updates.iter().filter(|u| decreases(u.now.memory_limit, u.wanted.memory_limit)) {
            let used = agent.runtime.container_stats(update.id).await?.memory_usage;
            let limit = update.wanted.memory_limit;
            if below(limit, used) {
                let name = &update.container.name;
                errors.push(format!(
                    "attempting to set container {name:?} memory limit ({limit}) below current usage ({used})"
                ));
            }
        }
        match errors.len() {
            0 => Ok(()),
            1 => Err(ResizeError::BelowUsage(errors.remove(0))),
            _ => Err(ResizeError::BelowUsage(format!("[{}]", errors.join(", ")))),
        }
    }
}

/// Some running container, or the pod itself, does not have what is allocated.
fn in_progress(pod: &Pod, observed: &Observed, actuated: &Amounts) -> bool {
    let own = spec::spec(pod).resources.as_ref();
    let mut containers = spec::containers(pod).iter().chain(spec::init_containers(pod));
    values::pod_changes(own, actuated)
        || containers.any(|container| {
            observed.latest(&container.name).is_some_and(Seen::running)
                && values::change(own, container, actuated) != Change::Nothing
        })
}

fn updates<'a>(pod: &Pod, actions: &'a Actions, actuated: &Amounts) -> Vec<Update<'a>> {
    let own = spec::spec(pod).resources.as_ref();
    let update = |resize: &'a actions::Resize| {
        let (_, container) = spec::find_container(pod, &resize.name)?;
        let now = Values::of(actuated.pod.as_ref(), actuated.containers.get(&resize.name));
        let wanted = Values::of(own, container.resources.as_ref());
        Some(Update { id: &resize.id, container, now, wanted })
    };
    actions.to_resize.iter().filter_map(update).collect()
}

/// 0 is no limit.
fn decreases(before: i64, after: i64) -> bool {
    after > 0 && (before <= 0 || after < before)
}

fn below(limit: i64, used: u64) -> bool {
    u64::try_from(limit).is_ok_and(|limit| used >= limit)
}

/// What holds the containers both before and after.
fn widest(before: &Resources, after: &Resources) -> Resources {
    let larger = |a: i64, b: i64| if a <= 0 || b <= 0 { 0 } else { a.max(b) };
    Resources {
        cpu_shares: before.cpu_shares.max(after.cpu_shares),
        cpu_quota: larger(before.cpu_quota, after.cpu_quota),
        memory_limit: larger(before.memory_limit, after.memory_limit),
        ..after.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_wider_than_any() {
        let limited = Resources { memory_limit: 5, cpu_quota: 7, cpu_shares: 2, ..Resources::default() };
        let open = Resources { cpu_shares: 9, ..Resources::default() };
        let widest = widest(&limited, &open);
        assert_eq!((widest.memory_limit, widest.cpu_quota, widest.cpu_shares), (0, 0, 9));
        assert!(decreases(0, 5) && decreases(6, 5) && !decreases(5, 0) && !decreases(5, 6));
    }
}
