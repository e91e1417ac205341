//! ConfigMaps.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use super::secret::{SIZE_MAX, decoded_length, frozen};
use crate::registry::{Context, Strategy};
use crate::resources::at::At;

pub struct ConfigMap;

impl Strategy for ConfigMap {
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
    let binary = root.get("binaryData");
    let mut size = 0;
    for (key, value) in root.entries("data") {
        errors.extend(names::config_map_key(key).into_iter().map(|wrong| value.invalid_as(key, wrong)));
        if binary.is_some_and(|binary| binary.get(key).is_some()) {
            errors.push(value.invalid_as(key, "duplicate of key present in binaryData"));
        }
        size += value.str().len();
    }
    for (key, value) in root.entries("binaryData") {
        errors.extend(names::config_map_key(key).into_iter().map(|wrong| value.invalid_as(key, wrong)));
        size += decoded_length(value.str());
    }
    if size > SIZE_MAX {
        errors.push(Error::too_long(&Path::new(""), SIZE_MAX));
    }
    errors
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = frozen(object, old, &["data", "binaryData"]);
    errors.extend(validate(object));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn config_maps_are_held_to_upstreams_rules() {
        let mut valid = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"},
            "data": {"a": "b"}, "binaryData": {"c": "AA=="},
        });
        check(
            &ConfigMap,
            validate,
            &valid,
            &[
                (
                    "/data",
                    json!({"c": "x"}),
                    "data[c]: Invalid value: \"c\": duplicate of key present in binaryData",
                ),
                (
                    "/data",
                    json!({"a b": "x"}),
                    "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ),
                (
                    "/data",
                    json!({"a": "x".repeat(SIZE_MAX)}),
                    "[]: Too long: may not be more than 1048576 bytes",
                ),
            ],
        );
        check_updates(
            &ConfigMap,
            update,
            &valid,
            &[("/data/a", json!("x"), ""), ("/immutable", json!(true), "")],
        );
        valid["immutable"] = json!(true);
        check_updates(
            &ConfigMap,
            update,
            &valid,
            &[
                ("/data/a", json!("x"), "data: Forbidden: field is immutable when `immutable` is set"),
                (
                    "/immutable",
                    json!(null),
                    "immutable: Forbidden: field is immutable when `immutable` is set",
                ),
            ],
        );
    }
}
