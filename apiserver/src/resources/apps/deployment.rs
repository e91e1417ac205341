//! Deployments.

use serde_json::Value;

use crate::object;
use crate::registry::{Context, Strategy};

pub struct Deployment;

impl Strategy for Deployment {
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
