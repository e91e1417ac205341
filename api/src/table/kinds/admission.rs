//! Admission policies and webhooks.

use super::super::Cell;
use super::View;

pub(super) fn mutating_policy(object: View<'_>) -> Vec<Cell<'_>> {
    policy(object, "spec.mutations")
}

pub(super) fn validating_policy(object: View<'_>) -> Vec<Cell<'_>> {
    policy(object, "spec.validations")
}

fn policy<'a>(object: View<'a>, rules: &str) -> Vec<Cell<'a>> {
    let param = object.at("spec.paramKind");
    let kind = if param.is_null() {
        "<unset>".into()
    } else {
        format!("{}/{}", param.str("apiVersion"), param.str("kind")).into()
    };
    vec![object.name(), Cell::Int(object.count(rules) as i64), kind, object.age()]
}

pub(super) fn binding(object: View<'_>) -> Vec<Cell<'_>> {
    let param = object.at("spec.paramRef");
    let (name, namespace) = (param.str("name"), param.str_or("namespace", "*"));
    let param = if !name.is_empty() {
        format!("{namespace}/{name}").into()
    } else if param.at("selector").is_null() {
        "<unset>".into()
    } else {
        param.selector("selector").into()
    };
    vec![object.name(), object.str("spec.policyName").into(), param, object.age()]
}

pub(super) fn webhooks(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), Cell::Int(object.count("webhooks") as i64), object.age()]
}
