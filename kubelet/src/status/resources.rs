//! A pod's resources as a whole: what the node has promised, and what is in force.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};

use crate::pod::spec;
use crate::resources::amount::{self, List};
use crate::resources::pod::{Which, all_limited, total, whole};

/// Before the pod runs, what is allocated; while it runs, what its cgroup enforces: a limit that only some containers
/// have is none of the pod's.
pub fn fill(pod: &Pod, actuated: &Pod, status: &mut PodStatus) {
    let running = status.phase.as_deref() == Some("Running");
    status.allocated_resources =
        Some(quantities(total(pod, Which::Requests))).filter(|list| !list.is_empty());
    let source = if running { actuated } else { pod };
    let own = spec::spec(source).resources.clone().unwrap_or_default();
    let (mut requests, mut limits) =
        (quantities(total(source, Which::Requests)), quantities(total(source, Which::Limits)));
    if running {
        let of_pod = |list: &Option<List>, name: &str| list.as_ref().is_some_and(|l| l.contains_key(name));
        requests.retain(|name, _| compute(name) || of_pod(&own.requests, name));
        limits.retain(|name, _| (compute(name) && all_limited(source, name)) || of_pod(&own.limits, name));
    }
    status.resources = Some(ResourceRequirements {
        requests: Some(requests).filter(|list| !list.is_empty()),
        limits: Some(limits).filter(|list| !list.is_empty()),
        claims: own.claims,
    });
}

fn compute(name: &str) -> bool {
    matches!(name, "cpu" | "memory")
}

fn quantities(milli: BTreeMap<String, i64>) -> List {
    let quantity = |name: &str, milli: i64| match name {
        "cpu" => amount::cpu(milli),
        _ => amount::bytes(whole(milli)),
    };
    milli.into_iter().map(|(name, milli)| (name.clone(), quantity(&name, milli))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_running_pod_shows_only_limits_that_hold_for_all_of_it() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"},
                                        "limits": {"cpu": "200m", "memory": "64Mi"}}},
            {"name": "b", "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "1Gi"}}},
        ]}}))
        .expect("a pod");
        let mut status = PodStatus { phase: Some("Running".into()), ..PodStatus::default() };
        fill(&pod, &pod, &mut status);
        let resources = status.resources.expect("filled");
        let limits = resources.limits.expect("limited");
        assert_eq!(limits.get("memory").map(|q| q.0.as_str()), Some("1088Mi"));
        assert!(!limits.contains_key("cpu"));
        assert_eq!(resources.requests.expect("asked")["cpu"].0, "150m");
        assert_eq!(status.allocated_resources.expect("asked")["memory"].0, "64Mi");
    }
}
