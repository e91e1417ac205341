//! StorageClasses.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::{Map, Value};

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES: usize = 256 * 1024;

pub struct StorageClass;

impl Strategy for StorageClass {
    fn set_defaults(&self, object: &mut Value) {
        fill::nil(object, "reclaimPolicy", "Delete");
        fill::nil(object, "volumeBindingMode", "Immediate");
    }

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
    provisioner(&root.at("provisioner"), &mut errors);
    parameters(&root, &mut errors);
    if root.filled("reclaimPolicy") {
        root.at("reclaimPolicy").one_of(&mut errors, &["Delete", "Retain"]);
    }
    let mode = root.at("volumeBindingMode");
    match mode.value() {
        None => errors.push(mode.required("")),
        Some(_) => mode.one_of(&mut errors, &["Immediate", "WaitForFirstConsumer"]),
    }
    topologies(&root, &mut errors);
    errors
}

/// The name of who makes volumes.
pub fn provisioner(at: &At<'_>, errors: &mut ErrorList) {
    if at.str().is_empty() {
        errors.push(at.required(""));
        return;
    }
    let lower = at.str().to_lowercase();
    let wrong = names::qualified_name(&lower).into_iter();
    errors.extend(wrong.map(|wrong| at.invalid_as(lower.as_str(), wrong)));
}

/// What is handed to a driver as it is.
pub fn parameters(root: &At<'_>, errors: &mut ErrorList) {
    let at = root.at("parameters");
    let count = at.value().and_then(Value::as_object).map_or(0, Map::len);
    if count > PARAMETERS_MAX {
        errors.push(Error::too_long(at.path(), PARAMETERS_MAX));
        return;
    }
    let mut size = 0;
    for (key, value) in root.entries("parameters") {
        if key.is_empty() {
            errors.push(at.invalid_as(key, "field can not be empty."));
        }
        size += key.len() + value.str().len();
    }
    if size > PARAMETERS_BYTES {
        errors.push(Error::too_long(at.path(), PARAMETERS_BYTES));
    }
}

fn topologies(root: &At<'_>, errors: &mut ErrorList) {
    let mut terms: Vec<&Value> = Vec::new();
    for term in root.items("allowedTopologies") {
        let mut keys = BTreeSet::new();
        for expression in term.items("matchLabelExpressions") {
            if expression.list("values").is_empty() {
                errors.push(expression.at("values").required(""));
            }
            let mut values = BTreeSet::new();
            for value in expression.items("values") {
                if !values.insert(value.str()) {
                    errors.push(value.duplicate());
                }
            }
            let key = expression.at("key");
            key.check(errors, names::qualified_name);
            if !keys.insert(key.str()) {
                errors.push(key.duplicate());
            }
        }
        if let Some(value) = term.value() {
            if terms.contains(&value) {
                let at = term.at("matchLabelExpressions");
                errors.push(Error::duplicate(at.path(), ""));
            }
            terms.push(value);
        }
    }
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (root, was) = (At::root(object), At::root(old));
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        root.at(field).immutable(&mut errors, &was.at(field));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn storage_classes_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "s"}, "provisioner": "p.example/x",
        });
        check(
            &StorageClass,
            validate,
            &valid,
            &[
                ("/provisioner", json!(""), "provisioner: Required value"),
                (
                    "/reclaimPolicy",
                    json!("X"),
                    "reclaimPolicy: Unsupported value: \"X\": supported values: \"Delete\", \"Retain\"",
                ),
                (
                    "/volumeBindingMode",
                    json!("X"),
                    "volumeBindingMode: Unsupported value: \"X\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                ),
            ],
        );
        check_updates(
            &StorageClass,
            update,
            &valid,
            &[
                ("/provisioner", json!("q"), "provisioner: Invalid value: \"q\": field is immutable"),
                ("/allowVolumeExpansion", json!(true), ""),
            ],
        );
    }
}
