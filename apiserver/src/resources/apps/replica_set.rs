//! ReplicaSets.

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::{self, workload};

pub struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn set_defaults(&self, object: &mut Value) {
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

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = validate(object);
        let of = |object| At::root(object).at("spec").at("selector");
        of(object).immutable(&mut errors, &of(old));
        errors
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::root(object).at("status");
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        workload::counts(&status, &["replicas"], &mut errors);
        workload::counts(&status, &parts, &mut errors);
        workload::counts(&status, &["observedGeneration", "terminatingReplicas"], &mut errors);
        workload::parts(&status, &parts, "readyReplicas", &mut errors);
        errors
    }
}

pub fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    spec.at("replicas").nonnegative(&mut errors);
    spec.at("minReadySeconds").nonnegative(&mut errors);
    super::selector_and_template(&spec, &mut errors);
    errors
}
