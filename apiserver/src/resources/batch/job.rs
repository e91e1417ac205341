//! Jobs.

mod indexes;
mod status;
pub mod validate;

use knarr_api::field::ErrorList;
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
        if !object.pointer("/spec/manualSelector").and_then(Value::as_bool).unwrap_or_default() {
            generate_selector(object);
        }
    }

    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        pod_spec::warnings::of_workload(object, old, "Pod names and hostnames")
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
}

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// The labels that a job's pods carry: by name and by identity, as of old and with a prefix.
fn generated_labels<'a>(name: &'a str, uid: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("controller-uid", uid),
        ("job-name", name),
        (CONTROLLER_UID, uid),
        ("batch.kubernetes.io/job-name", name),
    ]
}

/// Makes a job choose its own pods and no others. What the author wrote stays, for validation to judge.
pub fn generate_selector(job: &mut Value) {
    let (name, uid) = (object::name(job).to_owned(), object::uid(job).to_owned());
    let spec = object::map_at(job, "spec");
    let labels = object::map_at(object::map_at(object::map_at(spec, "template"), "metadata"), "labels");
    for (key, value) in generated_labels(&name, &uid) {
        fill::nil(labels, key, value);
    }
    fill::nil(object::map_at(object::map_at(spec, "selector"), "matchLabels"), CONTROLLER_UID, uid);
}

/// Whether a job rests and none of its pods runs any more.
fn is_suspended(job: &Value) -> bool {
    let suspended = job.pointer("/spec/suspend").and_then(Value::as_bool).unwrap_or_default();
    let started = job.pointer("/status/startTime").is_some();
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let told = conditions.filter(|condition| condition["type"] == "Suspended").any(|c| c["status"] == "True");
    suspended && (!started || told)
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
