//! ResourceQuotas.

use std::collections::BTreeSet;

use knarr_api::field::{ErrorList, IMMUTABLE};
use serde_json::{Value, json};

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::amounts;

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const COMPUTE: [&str; 7] =
    ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

pub struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn set_defaults(&self, object: &mut Value) {
        for part in ["spec", "status"] {
            if let Some(part) = object.get_mut(part) {
                fill::round_up(part, "hard");
                fill::round_up(part, "used");
            }
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({});
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = At::root(object).at("status");
        hard(&status, "hard", &mut errors);
        hard(&status, "used", &mut errors);
        errors
    }
}

fn hard(of: &At<'_>, field: &'static str, errors: &mut ErrorList) {
    for (name, amount) in of.entries(field) {
        amounts::quota_name(name, &amount, errors);
        amounts::amount(name, &amount, errors);
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    hard(&spec, "hard", &mut errors);
    let limited: Vec<&str> = spec.entries("hard").map(|(name, _)| name).collect();
    let misfits = |scope: &str| limited.iter().filter(|name| !applies(scope, name)).count();
    let scopes = spec.at("scopes");
    for scope in spec.texts("scopes") {
        if !SCOPES.contains(&scope) {
            errors.push(scopes.invalid("unsupported scope"));
        }
        errors.extend((0..misfits(scope)).map(|_| scopes.invalid("unsupported scope applied to resource")));
    }
    conflicts(&spec.texts("scopes").collect(), &scopes, &mut errors);
    if let Some(selector) = spec.some("scopeSelector") {
        scope_selector(&selector, &scopes, &misfits, &mut errors);
    }
    errors
}

/// Whether a scope may restrict how a resource is counted; resources nobody knows may be restricted by any.
fn applies(scope: &str, resource: &str) -> bool {
    let known = COMPUTE.contains(&resource)
        || matches!(
            resource,
            "ephemeral-storage"
                | "requests.storage"
                | "requests.ephemeral-storage"
                | "limits.ephemeral-storage"
        )
        || matches!(
            resource,
            "resourcequotas" | "services" | "replicationcontrollers" | "secrets" | "configmaps"
        )
        || matches!(resource, "persistentvolumeclaims" | "services.nodeports" | "services.loadbalancers")
        || amounts::is_huge_pages(resource.trim_start_matches("requests."));
    match scope {
        _ if !known => true,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => COMPUTE.contains(&resource),
        _ => true,
    }
}

fn conflicts(scopes: &BTreeSet<&str>, at: &At<'_>, errors: &mut ErrorList) {
    for _ in CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))) {
        errors.push(at.invalid_as(at.value().cloned().unwrap_or_default(), "conflicting scopes"));
    }
}

fn scope_selector(
    selector: &At<'_>,
    scopes: &At<'_>,
    misfits: &dyn Fn(&str) -> usize,
    errors: &mut ErrorList,
) {
    const ONLY_EXISTS: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let at = selector.at("matchExpressions");
    let mut seen = BTreeSet::new();
    for expression in selector.list("matchExpressions").iter() {
        // Upstream names the list, not the item, as the place of its faults.
        let expression = At::new(Some(expression), at.path().clone());
        let (scope, operator) = (expression.at("scopeName"), expression.at("operator"));
        if !SCOPES.contains(&scope.str()) {
            errors.push(scope.invalid("unsupported scope"));
        }
        let shown = selector.value().cloned().unwrap_or_default();
        let detail = "unsupported scope applied to resource";
        errors.extend((0..misfits(scope.str())).map(|_| at.invalid_as(shown.clone(), detail)));
        let by_value = matches!(scope.str(), "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope.str()) && !by_value && operator.str() != "Exists" {
            errors.push(operator.invalid(ONLY_EXISTS));
        }
        let values = expression.at("values");
        match operator.str() {
            "In" | "NotIn" if expression.list("values").is_empty() => {
                let detail =
                    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(values.required(detail));
            }
            "Exists" | "DoesNotExist" if !expression.list("values").is_empty() => {
                let detail =
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(values.invalid(detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
        seen.insert(scope.str());
    }
    conflicts(&seen, scopes, errors);
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(object);
    let scopes = At::root(object).at("spec").at("scopes");
    let set = |of: &Value| -> BTreeSet<String> {
        At::root(of).at("spec").texts("scopes").map(str::to_owned).collect()
    };
    if set(object) != set(old) {
        errors.push(scopes.invalid_as(scopes.value().cloned().unwrap_or_default(), IMMUTABLE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn quotas_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "n"},
            "spec": {"hard": {"pods": "1", "count/deployments.apps": "2"}},
        });
        check(
            &ResourceQuota,
            validate,
            &valid,
            &[
                (
                    "/spec/hard/pods",
                    json!("-1"),
                    "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
                ),
                (
                    "/spec/hard/pods",
                    json!("500m"),
                    "spec.hard[pods]: Invalid value: \"500m\": must be an integer",
                ),
                (
                    "/spec/hard/x",
                    json!("1"),
                    "[spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified, spec.hard[x]: Invalid value: \"x\": must be a standard resource for quota]",
                ),
                (
                    "/spec/scopes",
                    json!(["BestEffort", "NotBestEffort"]),
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
                ),
            ],
        );
        check_updates(
            &ResourceQuota,
            update,
            &valid,
            &[
                ("/spec/hard/pods", json!("5"), ""),
                (
                    "/spec/scopes",
                    json!(["BestEffort"]),
                    "spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable",
                ),
            ],
        );
    }
}
