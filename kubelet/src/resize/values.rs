//! CPU and memory of one container as numbers, to compare what is in force with what is allocated.

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};

use super::Amounts;
use crate::resources::amount;

/// Thousandths of CPU and bytes; 0 for none. A container without a limit of its own has the pod's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Values {
    pub cpu_request: i64,
    pub cpu_limit: i64,
    pub memory_request: i64,
    pub memory_limit: i64,
}

impl Values {
    pub fn of(pod: Option<&ResourceRequirements>, container: Option<&ResourceRequirements>) -> Self {
        let requests = container.and_then(|r| r.requests.as_ref());
        let limits = container.and_then(|r| r.limits.as_ref());
        let of_pod = pod.and_then(|r| r.limits.as_ref());
        let limit = |read: fn(Option<&amount::List>, &str) -> Option<i64>, name: &str| {
            read(limits, name).or_else(|| read(of_pod, name)).unwrap_or(0)
        };
        Self {
            cpu_request: amount::milli_of(requests, "cpu").unwrap_or(0),
            cpu_limit: limit(amount::milli_of, "cpu"),
            memory_request: amount::value_of(requests, "memory").unwrap_or(0),
            memory_limit: limit(amount::value_of, "memory"),
        }
    }

    fn cpu(&self) -> (i64, i64) {
        (self.cpu_request, self.cpu_limit)
    }

    fn memory(&self) -> (i64, i64) {
        (self.memory_request, self.memory_limit)
    }
}

/// What has to happen to a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Update,
    Restart,
}

/// Whether the pod's own amounts changed since its first container started.
pub fn pod_changes(pod: Option<&ResourceRequirements>, actuated: &Amounts) -> bool {
    let values = |resources| Values::of(None, resources);
    actuated.pod.as_ref().is_some_and(|now| values(Some(now)) != values(pod))
}

/// Compares a running container with what is allocated to it. One that was started by an agent that took no notes
/// counts as it should be.
pub fn change(pod: Option<&ResourceRequirements>, container: &Container, actuated: &Amounts) -> Change {
    let Some(now) = actuated.containers.get(&container.name) else { return Change::Nothing };
    let wanted = Values::of(pod, container.resources.as_ref());
    let current = Values::of(actuated.pod.as_ref(), Some(now));
    if wanted == current {
        return Change::Nothing;
    }
    let restarts = |name: &str| {
        let policies = container.resize_policy.as_deref().unwrap_or_default();
        policies.iter().any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
    };
    let cpu = wanted.cpu() != current.cpu() && restarts("cpu");
    let memory = wanted.memory() != current.memory() && restarts("memory");
    if cpu || memory { Change::Restart } else { Change::Update }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container(cpu: &str, policy: &str) -> Container {
        serde_json::from_value(json!({
            "name": "main",
            "resources": {"requests": {"cpu": cpu}, "limits": {"memory": "64Mi"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}],
        }))
        .expect("a container")
    }

    #[test]
    fn the_policy_of_the_resource_that_changes_decides() {
        let before = container("1", "NotRequired");
        let actuated = Amounts {
            pod: None,
            containers: [("main".to_owned(), before.resources.clone().expect("given"))].into(),
        };
        assert_eq!(change(None, &before, &actuated), Change::Nothing);
        assert_eq!(change(None, &container("1000m", "RestartContainer"), &actuated), Change::Nothing);
        assert_eq!(change(None, &container("2", "NotRequired"), &actuated), Change::Update);
        assert_eq!(change(None, &container("2", "RestartContainer"), &actuated), Change::Restart);
        assert_eq!(change(None, &container("2", "NotRequired"), &Amounts::default()), Change::Nothing);
    }
}
