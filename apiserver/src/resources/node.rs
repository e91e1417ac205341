//! RuntimeClasses.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::{Value, json};

use super::at::At;
use super::fill;
use super::pod_spec::{amounts, scheduling};
use crate::registry::{Context, Strategy};

pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(overhead) = object.get_mut("overhead") {
            fill::round_up(overhead, "podFixed");
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        At::root(object).at("handler").immutable(&mut errors, &At::root(old).at("handler"));
        errors
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    root.at("handler").require(&mut errors, names::dns_label);
    if let Some(overhead) = root.some("overhead") {
        let limits = json!({"limits": overhead.get("podFixed")});
        let at = At::new(Some(&limits), overhead.path().clone());
        amounts::requirements(&at, amounts::container_name, &BTreeSet::new(), &mut errors);
    }
    let placement = root.at("scheduling");
    if let Some(labels) = placement.get("nodeSelector").and_then(Value::as_object) {
        errors.extend(names::validate_labels(labels, placement.at("nodeSelector").path()));
    }
    scheduling::tolerations(placement.items("tolerations"), &mut errors);
    let mut seen = BTreeSet::new();
    for toleration in placement.items("tolerations") {
        let key = ["key", "operator", "value", "effect"].map(|field| toleration.text(field));
        if !seen.insert(key) {
            let shown = toleration.value().cloned().unwrap_or_default();
            errors.push(Error::duplicate(toleration.path(), shown));
        }
    }
    errors
}
