//! VolumeAttributesClasses.

use knarr_api::field::ErrorList;
use serde_json::Value;

use super::storage_class::{parameters, provisioner};
use crate::registry::{Context, Strategy};
use crate::resources::at::{At, same};

pub struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    provisioner(&root.at("driverName"), &mut errors);
    parameters(&root, &mut errors);
    if !root.filled("parameters") {
        errors.push(root.at("parameters").required("must contain at least one key/value pair"));
    }
    errors
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (new, old) = (At::root(object), At::root(old));
    for field in ["driverName", "parameters"] {
        if !same(new.get(field), old.get(field)) {
            errors.push(new.at(field).forbidden(format!("updates to {field} are forbidden.")));
        }
    }
    errors.extend(validate(object));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn classes_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "c"},
            "driverName": "csi.example.com", "parameters": {"a": "b"}});
        check(
            &VolumeAttributesClass,
            validate,
            &valid,
            &[
                ("/driverName", json!(""), "driverName: Required value"),
                (
                    "/parameters",
                    json!({}),
                    "parameters: Required value: must contain at least one key/value pair",
                ),
                ("/parameters", json!({"": "x"}), "parameters: Invalid value: \"\": field can not be empty."),
            ],
        );
        let table = [
            (
                "/driverName",
                json!("other.example.com"),
                "driverName: Forbidden: updates to driverName are forbidden.",
            ),
            ("/parameters/a", json!("c"), "parameters: Forbidden: updates to parameters are forbidden."),
        ];
        check_updates(&VolumeAttributesClass, update, &valid, &table);
    }
}
