//! Jobs.

use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::fill;
use crate::resources::pod_spec;

pub struct Job;

impl Strategy for Job {
    fn set_defaults(&self, object: &mut Value) {
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        if let Some(labels) = labels {
            fill::zero(object::map_at(object, "metadata"), "labels", labels);
        }
        default_spec(object::map_at(object, "spec"), true);
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({});
    }
}

/// A job's spec; in a CronJob's template only the pod is completed.
pub fn default_spec(spec: &mut Value, whole: bool) {
    if whole {
        if spec.get("parallelism").is_none_or(Value::is_null)
            && spec.get("completions").is_none_or(Value::is_null)
        {
            spec["completions"] = json!(1);
        }
        fill::nil(spec, "parallelism", 1);
        let per_index = spec.get("backoffLimitPerIndex").is_some_and(|limit| !limit.is_null());
        fill::nil(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
        fill::nil(spec, "completionMode", "NonIndexed");
        fill::nil(spec, "suspend", false);
        let replacement =
            if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
        fill::nil(spec, "podReplacementPolicy", replacement);
        fill::nil(spec, "manualSelector", false);
    }
    pod_spec::defaults::template(spec, "template");
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in fill::items(policy, "rules") {
            for pattern in fill::items(rule, "onPodConditions") {
                fill::zero(pattern, "status", "True");
            }
        }
    }
}
