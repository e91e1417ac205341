//! PersistentVolumeClaims.

mod validate;

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

pub use validate::{VOLUME_MODES, access_modes, basic, template as validate_template};

pub struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn set_defaults(&self, object: &mut Value) {
        set_defaults(object);
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"phase": "Pending"});
        drop_unknown_source(object, None);
        share_data_source(object);
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        validate::spec(&At::root(object).at("spec"), false, &mut errors);
        errors
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        drop_unknown_source(object, Some(old));
        share_data_source(object);
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        validate::update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        validate::status_update(object)
    }
}

/// Everything wrong with the spec of a new claim, wherever it stands.
pub fn validate_spec(spec: &At<'_>, errors: &mut ErrorList) {
    validate::spec(spec, false, errors);
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

/// Sets a field, or removes it.
fn put(of: &mut Value, field: &str, value: Option<Value>) {
    let Some(fields) = of.as_object_mut() else { return };
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
}

/// A `dataSource` that is neither a claim nor a snapshot was always ignored, unless there is one already. A reference
/// into another namespace is not served.
fn drop_unknown_source(object: &mut Value, old: Option<&Value>) {
    let known = |old: &Value| {
        ["/spec/dataSource", "/spec/dataSourceRef"].iter().any(|path| old.pointer(path).is_some())
    };
    if old.is_some_and(known) {
        return;
    }
    let Some(spec) = object.get_mut("spec") else { return };
    let elsewhere =
        spec.pointer("/dataSourceRef/namespace").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    if elsewhere {
        put(spec, "dataSourceRef", None);
    }
    let text = |field: &str| {
        spec.pointer(&format!("/dataSource/{field}")).and_then(Value::as_str).unwrap_or_default()
    };
    let keeps = matches!(
        (text("apiGroup"), text("kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    );
    if spec.get("dataSourceRef").is_none() && !keeps {
        put(spec, "dataSource", None);
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
