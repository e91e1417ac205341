//! Pods.

pub mod binding;
mod defaults;
mod ephemeral_containers;
pub mod eviction;
pub mod level_resources;
mod prepare;
mod resize;
mod status;
#[cfg(test)]
mod tests;
mod validate;

use knarr_api::field::ErrorList;
use serde_json::Value;

use crate::object;
use crate::registry::{Context, Strategy, UpdateStrategy};
use crate::resources::at::At;
use crate::resources::pod_spec;

pub struct Pod;

impl Strategy for Pod {
    fn set_defaults(&self, object: &mut Value) {
        defaults::set(object);
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        prepare::status(object, qos_class(object));
        prepare::label_keys(object);
    }

    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        // Few people change pods by hand, and many programs do.
        if old.is_some() {
            return Vec::new();
        }
        let mut warnings: Vec<String> =
            pod_spec::warnings::name(object::name(object), "the Pod's hostname").into_iter().collect();
        warnings.extend(pod_spec::warnings::of(&At::root(object)));
        warnings
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate::create(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        status::update(object, old)
    }

    fn subresource(&self, name: &str) -> Option<&dyn UpdateStrategy> {
        match name {
            "ephemeralcontainers" => Some(&ephemeral_containers::EphemeralContainers),
            "resize" => Some(&resize::Resize),
            _ => None,
        }
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        object::copy_meta(object, old, "ownerReferences");
        object::remove_meta(object, "deletionTimestamp");
        let kept = old.pointer("/status/qosClass").cloned();
        let status = object::map_at(object, "status");
        if let (None, Some(class)) = (status.get("qosClass"), kept) {
            status["qosClass"] = class;
        }
        if let Some(old) = old.get("status") {
            prepare::keep_observed_generations(status, old);
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
