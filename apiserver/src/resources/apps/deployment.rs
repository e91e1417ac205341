//! Deployments.

pub mod validate;

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::fill;
use crate::resources::pod_spec;

pub use validate::parsed_selector;

pub struct Deployment;

impl Strategy for Deployment {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::nil(spec, "replicas", 1);
        let strategy = object::map_at(spec, "strategy");
        fill::zero(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate" {
            let rolling = object::map_at(strategy, "rollingUpdate");
            fill::nil(rolling, "maxUnavailable", "25%");
            fill::nil(rolling, "maxSurge", "25%");
        }
        fill::nil(spec, "revisionHistoryLimit", 10);
        fill::nil(spec, "progressDeadlineSeconds", 600);
        pod_spec::defaults::template(spec, "template");
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({});
    }

    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        pod_spec::warnings::of_workload(object, old, "Pod names and hostnames")
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate::spec(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::status_update(object, old)
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        // Annotations count as well: rollouts record their history in them.
        let annotations = |o: &Value| object::metadata(o).and_then(|m| m.get("annotations")).cloned();
        if annotations(object) != annotations(old) {
            let generation = object::meta_i64(old, "generation").unwrap_or_default();
            object::set_meta(object, "generation", generation + 1);
        }
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        object::copy_meta(object, old, "labels");
    }
}
