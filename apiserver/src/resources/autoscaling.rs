//! HorizontalPodAutoscalers.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::{Value, json};

use super::at::{At, NOT_NEGATIVE};
use super::fill;
use super::pod_spec::amounts;
use crate::object;
use crate::registry::{Context, Strategy};

const PERIOD_MAX: i64 = 1800;
const WINDOW_MAX: i64 = 3600;
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// The fields in the order upstream looks at them.
const IN_ORDER: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

pub struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::nil(spec, "minReplicas", 1);
        let cpu = json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]);
        fill::zero(spec, "metrics", cpu);
        let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) else { return };
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let up = object::map_at(behavior, "scaleUp");
        fill::nil(up, "stabilizationWindowSeconds", 0);
        fill::nil(up, "selectPolicy", "Max");
        fill::nil(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
        let down = object::map_at(behavior, "scaleDown");
        fill::nil(down, "selectPolicy", "Max");
        fill::nil(down, "policies", json!([percent]));
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"currentMetrics": null, "desiredReplicas": 0});
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::root(object).at("status");
        status.at("currentReplicas").nonnegative(&mut errors);
        status.at("desiredReplicas").nonnegative(&mut errors);
        errors
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let (least, most) = (spec.at("minReplicas"), spec.at("maxReplicas"));
    if least.i64().is_some_and(|least| least < 1) {
        errors.push(least.invalid("must be greater than or equal to 1"));
    }
    match most.i64().unwrap_or_default() {
        0 => errors.push(most.required("must be set and greater than 0")),
        value if value < 0 => errors.push(most.invalid("must be greater than or equal to 1")),
        _ => {}
    }
    if least.i64().is_some_and(|least| most.i64().unwrap_or_default() < least) {
        let shown = most.i64().unwrap_or_default();
        errors.push(most.invalid_as(shown, "must be greater than or equal to `minReplicas`"));
    }
    reference(&spec.at("scaleTargetRef"), &mut errors);
    spec.items("metrics").for_each(|metric| self::metric(&metric, &mut errors));
    for field in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.at("behavior").some(field) {
            self::rules(&rules, &mut errors);
        }
    }
    errors
}

fn reference(target: &At<'_>, errors: &mut ErrorList) {
    target.at("kind").require(errors, names::path_segment_name);
    target.at("name").require(errors, names::path_segment_name);
}

fn metric(metric: &At<'_>, errors: &mut ErrorList) {
    let kind = metric.at("type");
    if kind.str().is_empty() {
        errors.push(kind.required("must specify a metric source type"));
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.str()).map(|(_, field)| *field);
    let unknown = || kind.unsupported(&SOURCES.map(|(name, _)| name));
    if expected.is_none() {
        errors.push(unknown());
    }
    let given: Vec<&'static str> = IN_ORDER.into_iter().filter(|field| metric.has(field)).collect();
    if let Some(first) = given.first() {
        source(first, &metric.at(first), errors);
    }
    match expected {
        None => errors.push(unknown()),
        Some(field) if !metric.has(field) => {
            errors.push(metric.at(field).required("must populate information for the given metric source"));
        }
        Some(_) => {}
    }
    if given.len() != 1 {
        for field in given.into_iter().filter(|field| Some(*field) != expected) {
            errors.push(metric.at(field).forbidden("must populate the given metric source only"));
        }
    }
}

fn source(field: &str, source: &At<'_>, errors: &mut ErrorList) {
    let target = source.at("target");
    match field {
        "resource" | "containerResource" => {
            let name = source.at("name");
            if name.str().is_empty() {
                errors.push(name.required("must specify a resource name"));
            } else if field == "containerResource" {
                amounts::container_name(name.str(), &name, errors);
            }
            let container = source.at("container");
            match (field, container.str()) {
                ("resource", _) => {}
                (_, "") => errors.push(container.required("must specify a container")),
                _ => container.check(errors, names::dns_label),
            }
        }
        _ => {
            if field == "object" {
                reference(&source.at("describedObject"), errors);
            }
            identifier(&source.at("metric"), errors);
        }
    }
    self::target(&target, errors);
    one_amount(field, &target, errors);
}

fn identifier(metric: &At<'_>, errors: &mut ErrorList) {
    let name = metric.at("name");
    if name.str().is_empty() {
        errors.push(name.required("must specify a metric name"));
    } else {
        name.check(errors, names::path_segment_name);
    }
}

/// Which amounts of a target go together depends on what is measured.
fn one_amount(field: &str, target: &At<'_>, errors: &mut ErrorList) {
    let (value, average) = (target.has("value"), target.has("averageValue"));
    let percent = target.has("averageUtilization");
    let average_at = target.at("averageValue");
    match field {
        "object" if !value && !average => {
            errors.push(average_at.required("must set either a target value or averageValue"));
        }
        "external" if !value && !average => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(average_at.required(detail));
        }
        "external" if value && average => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(target.at("value").forbidden(detail));
        }
        "pods" if !average => {
            errors.push(average_at.required("must specify a positive target averageValue"));
        }
        "resource" | "containerResource" if !percent && !average => {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(target.at("averageUtilization").required(detail));
        }
        "resource" | "containerResource" if percent && average => {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(average_at.forbidden(detail));
        }
        _ => {}
    }
}

fn target(target: &At<'_>, errors: &mut ErrorList) {
    let kind = target.at("type");
    if kind.str().is_empty() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !matches!(kind.str(), "Utilization" | "Value" | "AverageValue") {
        errors.push(kind.invalid("must be either Utilization, Value, or AverageValue"));
    }
    for field in ["value", "averageValue"] {
        let amount = target.at(field);
        if amount.quantity().is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let utilization = target.at("averageUtilization");
    if utilization.i64().is_some_and(|percent| percent < 1) {
        errors.push(utilization.invalid("must be greater than 0"));
    }
}

fn rules(rules: &At<'_>, errors: &mut ErrorList) {
    let window = rules.at("stabilizationWindowSeconds");
    match window.i64().unwrap_or_default() {
        seconds if seconds < 0 => errors.push(window.invalid("must be greater than or equal to zero")),
        seconds if seconds > WINDOW_MAX => {
            errors.push(window.invalid(format!("must be less than or equal to {WINDOW_MAX}")));
        }
        _ => {}
    }
    if let Some(select) = rules.some("selectPolicy") {
        select.one_of(errors, &["Disabled", "Max", "Min"]);
    }
    if rules.list("policies").is_empty() {
        errors.push(rules.at("policies").required("must specify at least one Policy"));
    }
    for policy in rules.items("policies") {
        policy.at("type").one_of(errors, &["Percent", "Pods"]);
        policy.at("value").positive(errors);
        let period = policy.at("periodSeconds");
        period.positive(errors);
        if period.i64().is_some_and(|seconds| seconds > PERIOD_MAX) {
            errors.push(period.invalid(format!("must be less than or equal to {PERIOD_MAX}")));
        }
    }
    let tolerance = rules.at("tolerance");
    if let Some(amount) = tolerance.quantity().filter(knarr_api::quantity::Quantity::is_negative) {
        errors.push(tolerance.invalid_as(amount.to_string(), NOT_NEGATIVE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{check, completed};

    #[test]
    fn autoscalers_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "n"},
            "spec": {"maxReplicas": 5, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "behavior": {}},
        });
        let whole = completed(&HorizontalPodAutoscaler, &valid);
        assert_eq!(whole["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(whole["spec"]["behavior"]["scaleUp"]["policies"].as_array().map(Vec::len), Some(2));
        check(
            &HorizontalPodAutoscaler,
            validate,
            &valid,
            &[
                (
                    "/spec/maxReplicas",
                    json!(0),
                    "[spec.maxReplicas: Required value: must be set and greater than 0, spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`]",
                ),
                (
                    "/spec/minReplicas",
                    json!(6),
                    "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
                ),
                ("/spec/scaleTargetRef/name", json!(""), "spec.scaleTargetRef.name: Required value"),
            ],
        );
    }
}
