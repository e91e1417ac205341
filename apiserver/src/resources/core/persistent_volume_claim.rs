//! PersistentVolumeClaims.

use serde_json::{Value, json};

use crate::registry::{Context, Strategy};
use crate::resources::fill;

pub struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn set_defaults(&self, object: &mut Value) {
        set_defaults(object);
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"phase": "Pending"});
        share_data_source(object);
    }
}

/// A claim, wherever it stands.
pub fn set_defaults(claim: &mut Value) {
    if let Some(spec) = claim.get_mut("spec") {
        default_spec(spec);
    }
    if let Some(status) = claim.get_mut("status") {
        fill::zero(status, "phase", "Pending");
        fill::round_up(status, "capacity");
        fill::round_up(status, "allocatedResources");
    }
}

/// A claim's spec, wherever it stands.
pub fn default_spec(spec: &mut Value) {
    fill::nil(spec, "volumeMode", "Filesystem");
    if let Some(resources) = spec.get_mut("resources") {
        fill::round_up(resources, "limits");
        fill::round_up(resources, "requests");
    }
}

/// `dataSource` and `dataSourceRef` say the same unless the latter names another namespace.
fn share_data_source(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    let (source, reference) = (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned());
    match (source, reference) {
        (Some(source), None) => spec["dataSourceRef"] = source,
        (None, Some(reference)) => {
            let elsewhere = reference.get("namespace").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
            if !elsewhere {
                let mut source = json!({});
                for field in ["apiGroup", "kind", "name"] {
                    if let Some(value) = reference.get(field) {
                        source[field] = value.clone();
                    }
                }
                spec["dataSource"] = source;
            }
        }
        _ => {}
    }
}
