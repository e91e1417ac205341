//! What workloads that keep pods running have in common: a selector that fits a template, counts, roll-outs.

use knarr_api::field::ErrorList;
use knarr_api::names;
use knarr_api::selector::Selector;
use serde_json::{Map, Value};

use super::scheduling;
use super::template;
use crate::resources::at::At;

const MISFIT: &str = "`selector` does not match template `labels`";
const TOO_MANY: &str = "cannot be greater than status.replicas";

/// The labels of a template.
pub fn template_labels<'a>(template: &At<'a>) -> Option<&'a Map<String, Value>> {
    template.get("metadata")?.get("labels")?.as_object()
}

fn misfit(template: &At<'_>, errors: &mut ErrorList) {
    let metadata = template.at("metadata");
    let labels = template_labels(template).cloned().map_or(Value::Null, Value::Object);
    errors.push(metadata.at("labels").invalid_as(labels, MISFIT));
}

/// Whether labels fulfil a selector; an empty one is fulfilled by all.
pub fn selects(selector: &Selector, template: &At<'_>) -> bool {
    let none = Map::new();
    selector.matches(template_labels(template).unwrap_or(&none))
}

pub fn check_fit(selector: &Selector, template: &At<'_>, errors: &mut ErrorList) {
    if !selects(selector, template) {
        misfit(template, errors);
    }
}

/// A label selector that must be there and restrict something; `of` is what upstream calls the workload.
pub fn selector(spec: &At<'_>, of: &str, errors: &mut ErrorList) {
    let selector = spec.at("selector");
    if selector.value().is_none() {
        errors.push(selector.required(""));
        return;
    }
    scheduling::label_selector(&selector, errors);
    if !selector.filled("matchLabels") && !selector.filled("matchExpressions") {
        errors.push(selector.invalid(format!("empty selector is invalid for {of}")));
    }
}

/// The template of pods that run for ever, chosen by the selector beside it.
pub fn lasting_template(spec: &At<'_>, selector: &Selector, kind: &str, errors: &mut ErrorList) {
    let template = spec.at("template");
    if template.value().is_none() {
        errors.push(template.required(""));
        return;
    }
    if !selector.is_everything() {
        check_fit(selector, &template, errors);
    }
    template::validate(&template, errors);
    runs_for_ever(&template, kind, errors);
}

pub fn runs_for_ever(template: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let spec = template.at("spec");
    let policy = spec.at("restartPolicy");
    if policy.str() != "Always" {
        errors.push(policy.unsupported(&["Always"]));
    }
    if spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(spec.at("activeDeadlineSeconds").forbidden(detail));
    }
}

/// A number of pods, as such or of a hundred.
pub fn int_or_percent(at: &At<'_>, errors: &mut ErrorList) {
    match at.value() {
        Some(Value::String(_)) => at.check(errors, names::percent),
        _ => at.nonnegative(errors),
    }
}

fn percent(at: &At<'_>) -> Option<i64> {
    let text = at.value()?.as_str()?;
    names::percent(text).is_empty().then(|| text.trim_end_matches('%').parse().ok()).flatten()
}

/// The number, whatever it is of.
pub fn int_or_percent_value(at: &At<'_>) -> i64 {
    percent(at).or_else(|| at.i64()).or_else(|| at.str().parse().ok()).unwrap_or_default()
}

pub fn at_most_all(at: &At<'_>, errors: &mut ErrorList) {
    if percent(at).is_some_and(|percent| percent > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

/// Counts in a status: none negative.
pub fn counts(status: &At<'_>, fields: &[&'static str], errors: &mut ErrorList) {
    for field in fields {
        status.at(field).nonnegative(errors);
    }
}

/// No part may be greater than the whole, and no more available than ready; `ready` is what upstream calls the latter.
pub fn parts(status: &At<'_>, fields: &[&'static str], ready: &str, errors: &mut ErrorList) {
    let count = |field: &str| status.int(field).unwrap_or_default();
    for field in fields.iter().filter(|field| count(field) > count("replicas")) {
        errors.push(status.at(field).invalid(TOO_MANY));
    }
    if count("availableReplicas") > count("readyReplicas") {
        errors.push(status.at("availableReplicas").invalid(format!("cannot be greater than {ready}")));
    }
}

pub fn collisions(status: &At<'_>, old: &At<'_>, errors: &mut ErrorList) {
    let count = status.at("collisionCount");
    let (new, old) = (count.i64(), old.int("collisionCount"));
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errors.push(count.invalid_as(new.unwrap_or_default(), "cannot be decremented"));
    }
}
