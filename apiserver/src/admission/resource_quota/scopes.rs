//! Quotas that are only about some objects.

use serde_json::Value;

use super::usage::Kind;
use crate::admission::pod::{items, text};
use crate::admission::pod_resources::{Side, of_pod};

/// Whether all scopes of a quota's spec select the object.
pub fn select(spec: &Value, kind: Kind, object: &Value) -> bool {
    let simple = items(&spec["scopes"]).all(|scope| scoped(text(scope), "Exists", &[], kind, object));
    simple
        && items(&spec["scopeSelector"]["matchExpressions"]).all(|expression| {
            let values: Vec<&str> = items(&expression["values"]).map(text).collect();
            scoped(text(&expression["scopeName"]), text(&expression["operator"]), &values, kind, object)
        })
}

fn scoped(scope: &str, operator: &str, values: &[&str], kind: Kind, object: &Value) -> bool {
    let spec = &object["spec"];
    match (kind, scope) {
        (Kind::Pod, "Terminating") => spec["activeDeadlineSeconds"].is_number(),
        (Kind::Pod, "NotTerminating") => !spec["activeDeadlineSeconds"].is_number(),
        (Kind::Pod, "BestEffort") => is_best_effort(object),
        (Kind::Pod, "NotBestEffort") => !is_best_effort(object),
        (Kind::Pod, "PriorityClass") => named(text(&spec["priorityClassName"]), operator, values),
        (Kind::Pod, "CrossNamespacePodAffinity") => crosses_namespaces(spec),
        (Kind::Claim, "VolumeAttributesClass") => {
            named(text(&spec["volumeAttributesClassName"]), operator, values)
        }
        _ => false,
    }
}

fn named(name: &str, operator: &str, values: &[&str]) -> bool {
    match operator {
        "In" => values.contains(&name),
        "NotIn" => !values.contains(&name),
        "DoesNotExist" => name.is_empty(),
        _ => !name.is_empty(),
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let none = |side| {
        let amounts = of_pod(pod, side);
        !["cpu", "memory"].iter().any(|name| amounts.get(*name).is_some_and(|amount| !amount.is_zero()))
    };
    none(Side::Requests) && none(Side::Limits)
}

fn crosses_namespaces(spec: &Value) -> bool {
    let crosses =
        |term: &Value| items(&term["namespaces"]).next().is_some() || term["namespaceSelector"].is_object();
    ["podAffinity", "podAntiAffinity"].iter().map(|kind| &spec["affinity"][*kind]).any(|affinity| {
        items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).any(crosses)
            || items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"])
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
