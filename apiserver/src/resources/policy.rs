//! PodDisruptionBudgets.

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use super::at::At;
use super::pod_spec::scheduling::label_selector;
use super::pod_spec::workload;
use crate::registry::{Context, Strategy};

pub struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] =
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::root(object).at("status");
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        workload::counts(&status, &counts, &mut errors);
        errors
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let (least, most) = (spec.some("minAvailable"), spec.some("maxUnavailable"));
    if least.is_some() && most.is_some() {
        errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for amount in [least, most].iter().flatten() {
        workload::int_or_percent(amount, &mut errors);
        workload::at_most_all(amount, &mut errors);
    }
    label_selector(&spec.at("selector"), &mut errors);
    if let Some(policy) = spec.some("unhealthyPodEvictionPolicy") {
        policy.one_of(&mut errors, &["AlwaysAllow", "IfHealthyBudget"]);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn budgets_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "n"},
            "spec": {"minAvailable": 1, "selector": {}},
        });
        check(
            &PodDisruptionBudget,
            validate,
            &valid,
            &[
                (
                    "/spec/minAvailable",
                    json!("x"),
                    "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ),
                (
                    "/spec/minAvailable",
                    json!("101%"),
                    "spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%",
                ),
                (
                    "/spec/maxUnavailable",
                    json!(1),
                    "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1,\"selector\":{}}: minAvailable and maxUnavailable cannot be both set",
                ),
            ],
        );
    }
}
