//! Where a pod may run: node selectors, affinities, tolerations, gates.

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use knarr_api::selector::{LabelSelectorOptions, validate_label_selector};
use serde_json::{Map, Value};

use crate::resources::at::At;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NOT_AN_OPERATOR: &str = "not a valid selector operator";
pub const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Everything about placement in a pod's spec.
pub fn validate_affinity(spec: &At<'_>, errors: &mut ErrorList) {
    let affinity = spec.at("affinity");
    if let Some(node) = affinity.some("nodeAffinity") {
        if let Some(required) = node.some(REQUIRED) {
            node_selector(&required, errors);
        }
        for term in node.items(PREFERRED) {
            weight(&term, errors);
            node_selector_term(&term.at("preference"), false, errors);
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let affinity = affinity.at(field);
        affinity.items(REQUIRED).for_each(|term| pod_affinity_term(&term, errors));
        for term in affinity.items(PREFERRED) {
            weight(&term, errors);
            pod_affinity_term(&term.at("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &At<'_>, errors: &mut ErrorList) {
    let weight = term.at("weight");
    let value = weight.i64().unwrap_or_default();
    if !(1..=100).contains(&value) {
        errors.push(weight.invalid_as(value, "must be in the range 1-100"));
    }
}

pub fn node_selector(selector: &At<'_>, errors: &mut ErrorList) {
    if selector.list("nodeSelectorTerms").is_empty() {
        errors.push(selector.at("nodeSelectorTerms").required("must have at least one node selector term"));
    }
    selector.items("nodeSelectorTerms").for_each(|term| node_selector_term(&term, true, errors));
}

fn node_selector_term(term: &At<'_>, check_values: bool, errors: &mut ErrorList) {
    for requirement in term.items("matchExpressions") {
        let values = requirement.at("values");
        let count = requirement.list("values").len();
        match requirement.text("operator") {
            "In" | "NotIn" if count == 0 => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(values.forbidden(detail));
            }
            "Gt" | "Lt" if count != 1 => {
                errors
                    .push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.push(requirement.at("operator").invalid(NOT_AN_OPERATOR)),
        }
        requirement.at("key").check(errors, names::qualified_name);
        if check_values {
            requirement.items("values").for_each(|value| value.check(errors, names::label_value));
        }
    }
    for requirement in term.items("matchFields") {
        match requirement.text("operator") {
            "In" | "NotIn" if requirement.list("values").len() == 1 => {}
            "In" | "NotIn" => {
                let detail =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(requirement.at("values").required(detail));
            }
            _ => errors.push(requirement.at("operator").invalid(NOT_AN_OPERATOR)),
        }
        if requirement.text("key") == "metadata.name" {
            requirement.items("values").for_each(|value| value.check(errors, names::dns_subdomain));
        } else {
            errors.push(requirement.at("key").invalid("not a valid field selector key"));
        }
    }
}

fn pod_affinity_term(term: &At<'_>, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        label_selector(&term.at(field), errors);
    }
    let namespace = term.named("namespaces", "namespace");
    for name in term.texts("namespaces") {
        errors.extend(names::dns_label(name).into_iter().map(|wrong| namespace.invalid_as(name, wrong)));
    }
    label_keys(term, errors);
    let key = term.at("topologyKey");
    if key.str().is_empty() {
        errors.push(key.required("can not be empty"));
    }
    key.check(errors, names::qualified_name);
}

/// A label selector, if there is one.
pub fn label_selector(at: &At<'_>, errors: &mut ErrorList) {
    if let Some(selector) = at.value() {
        errors.extend(validate_label_selector(selector, LabelSelectorOptions::default(), at.path()));
    }
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside a label selector.
pub fn label_keys(term: &At<'_>, errors: &mut ErrorList) {
    let selector = term.get("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if term.filled(field) && selector.is_none() {
            errors.push(term.at(field).forbidden("must not be specified when labelSelector is not set"));
        } else {
            term.items(field).for_each(|key| key.check(errors, names::qualified_name));
        }
    }
    if let Some(selector) = selector {
        let keys: BTreeMap<&str, usize> =
            term.texts("matchLabelKeys").enumerate().map(|(i, key)| (key, i)).collect();
        let selector = At::root(selector);
        let labels = selector.get("matchLabels").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let mut seen: BTreeSet<&str> = labels.map(String::as_str).collect();
        for expression in selector.list("matchExpressions") {
            let key = At::root(expression).text("key");
            if let Some(i) = keys.get(key).filter(|_| seen.contains(key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.push(Error::invalid(&term.path().index(*i), key, detail));
            }
            seen.insert(key);
        }
    }
    let mismatch: BTreeSet<&str> = term.texts("mismatchLabelKeys").collect();
    for key in term.items("matchLabelKeys").filter(|key| mismatch.contains(key.str())) {
        errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
    }
}

pub fn tolerations<'a>(tolerations: impl Iterator<Item = At<'a>>, errors: &mut ErrorList) {
    for toleration in tolerations {
        let (key, operator, value) =
            (toleration.at("key"), toleration.at("operator"), toleration.text("value"));
        if !key.str().is_empty() {
            key.check(errors, names::qualified_name);
        } else if operator.str() != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.invalid(detail));
        }
        let effect = toleration.at("effect");
        if toleration.has("tolerationSeconds") && effect.str() != "NoExecute" {
            errors.push(effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        match operator.str() {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(operator.invalid_as(value, wrong.join(";")));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => {
                errors.push(operator.invalid_as(value, "value must be empty when `operator` is 'Exists'"))
            }
            "Lt" | "Gt" => errors.push(operator.unsupported(&["Equal", "Exists", "Lt", "Gt"])),
            _ => errors.push(operator.unsupported(&["Equal", "Exists"])),
        }
        if !effect.str().is_empty() {
            effect.one_of(errors, &TAINT_EFFECTS);
        }
    }
}

pub fn gates(spec: &At<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for gate in spec.items("schedulingGates") {
        let name = gate.text("name");
        errors.extend(names::qualified_name(name).into_iter().map(|wrong| gate.invalid_as(name, wrong)));
        if !seen.insert(name) {
            errors.push(Error::duplicate(gate.path(), name));
        }
    }
}
