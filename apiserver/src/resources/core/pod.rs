//! Pods.

pub mod binding;
mod defaults;
mod ephemeral_containers;
pub mod eviction;
mod level_resources;
mod resize;

use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy, UpdateStrategy};

pub struct Pod;

impl Strategy for Pod {
    fn set_defaults(&self, object: &mut Value) {
        defaults::set(object);
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"phase": "Pending", "qosClass": qos_class(object)});
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        object::copy_meta(object, old, "ownerReferences");
        object::remove_meta(object, "deletionTimestamp");
        let kept = old.pointer("/status/qosClass").cloned();
        let status = object::map_at(object, "status");
        if let (None, Some(class)) = (status.get("qosClass"), kept) {
            status["qosClass"] = class;
        }
    }

    fn subresource(&self, name: &str) -> Option<&dyn UpdateStrategy> {
        match name {
            "ephemeralcontainers" => Some(&ephemeral_containers::EphemeralContainers),
            "resize" => Some(&resize::Resize),
            _ => None,
        }
    }

    fn grace_period(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let spec = object.get("spec");
        let own = spec.and_then(|spec| spec.get("terminationGracePeriodSeconds")).and_then(Value::as_i64);
        let mut period = requested.or(own).unwrap_or_default();
        let node = spec.and_then(|spec| spec.get("nodeName")).and_then(Value::as_str).unwrap_or_default();
        let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        // A pod that no kubelet knows, or that has ended, has nothing to wait for.
        if node.is_empty() || matches!(phase, "Failed" | "Succeeded") {
            period = 0;
        }
        Some(if period < 0 { 1 } else { period })
    }
}

/// Replaces the new pod by the old one with what `change` takes over from the new; the writer's resourceVersion
/// and managed fields stay.
fn keep_all_but(object: &mut Value, old: &Value, change: impl FnOnce(&Value, &mut Value)) {
    let mut pod = old.clone();
    change(object, &mut pod);
    for field in ["resourceVersion", "managedFields"] {
        object::copy_meta(&mut pod, object, field);
    }
    *object = pod;
}

/// The quality of service that a pod's requests and limits earn it.
pub fn qos_class(pod: &Value) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let containers = ["/spec/containers", "/spec/initContainers"]
        .iter()
        .filter_map(|path| pod.pointer(path).and_then(Value::as_array))
        .flatten();
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        for resource in COUNTED {
            let amount = |kind: &str| {
                let text = container.get("resources")?.get(kind)?.get(resource)?;
                knarr_api::quantity::Quantity::from_json(text).ok().filter(|amount| !amount.is_zero())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_limits_decide_the_quality_of_service() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        assert_eq!(qos_class(&pod(json!({"limits": both, "requests": both}))), "Guaranteed");
        assert_eq!(
            qos_class(&pod(json!({"limits": both, "requests": {"cpu": "500m", "memory": "1Gi"}}))),
            "Burstable"
        );
    }

    #[test]
    fn a_pod_on_no_node_ends_at_once() {
        let pod = json!({"spec": {"terminationGracePeriodSeconds": 30}});
        assert_eq!(Pod.grace_period(&pod, None), Some(0));
        let placed = json!({"spec": {"terminationGracePeriodSeconds": 30, "nodeName": "n"}});
        assert_eq!(Pod.grace_period(&placed, None), Some(30));
        assert_eq!(Pod.grace_period(&placed, Some(5)), Some(5));
    }
}
