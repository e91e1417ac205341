//! ReplicationControllers.

use knarr_api::field::ErrorList;
use knarr_api::selector::Selector;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::{self, workload};

pub struct ReplicationController;

impl Strategy for ReplicationController {
    fn set_defaults(&self, object: &mut Value) {
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        if let Some(labels) = labels {
            fill::zero(object::map_at(object, "spec"), "selector", labels.clone());
            fill::zero(object::map_at(object, "metadata"), "labels", labels);
        }
        let spec = object::map_at(object, "spec");
        fill::nil(spec, "replicas", 1);
        pod_spec::defaults::template(spec, "template");
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"replicas": 0});
    }
    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        pod_spec::warnings::of_workload(object, old, "Pod names and hostnames")
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::root(object).at("status");
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        workload::counts(&status, &["replicas"], &mut errors);
        workload::counts(&status, &parts, &mut errors);
        workload::counts(&status, &["observedGeneration"], &mut errors);
        workload::parts(&status, &parts, "readyReplicas", &mut errors);
        errors
    }
}

pub fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    spec.at("minReadySeconds").nonnegative(&mut errors);
    let selector = spec.at("selector");
    let labels = selector.value().and_then(Value::as_object).into_iter().flatten();
    let parsed = Selector::from_set(labels.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))));
    if parsed.is_everything() {
        errors.push(selector.required(""));
    }
    let replicas = spec.at("replicas");
    match replicas.value() {
        None => errors.push(replicas.required("")),
        Some(_) => replicas.nonnegative(&mut errors),
    }
    workload::lasting_template(&spec, &parsed, "ReplicationController", &mut errors);
    errors
}
