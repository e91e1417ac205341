//! What a new pod gets beyond what its author wrote, and what its status keeps.

use serde_json::{Value, json};

use crate::resources::fill;

/// The status of a new pod.
pub fn status(pod: &mut Value, qos_class: &str) {
    let gated =
        pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
    let mut status = json!({"phase": "Pending", "qosClass": qos_class});
    if gated {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    pod["status"] = status;
}

/// Turns `matchLabelKeys` into requirements of the selector beside them: what the pod's own labels say.
pub fn label_keys(pod: &mut Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(labels) = pod.pointer("/metadata/labels").cloned() else { return };
    let Some(spec) = pod.get_mut("spec") else { return };
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = spec.get_mut("affinity").and_then(|all| all.get_mut(affinity)) else { continue };
        fill::items(affinity, REQUIRED).for_each(|term| merge(term, &labels));
        for term in fill::items(affinity, PREFERRED).filter_map(|term| term.get_mut("podAffinityTerm")) {
            merge(term, &labels);
        }
    }
    fill::items(spec, "topologySpreadConstraints").for_each(|constraint| merge(constraint, &labels));
}

fn merge(term: &mut Value, labels: &Value) {
    let mut added = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).into_iter().flatten();
        for (key, value) in keys.filter_map(Value::as_str).filter_map(|key| Some((key, labels.get(key)?))) {
            added.push(json!({"key": key, "operator": operator, "values": [value]}));
        }
    }
    let Some(selector) = term.get_mut("labelSelector").filter(|_| !added.is_empty()) else { return };
    fill::nil(selector, "matchExpressions", json!([]));
    if let Some(expressions) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        expressions.extend(added);
    }
}

/// A writer that does not know of observed generations does not clear them.
pub fn keep_observed_generations(status: &mut Value, old: &Value) {
    if let Some(known) = old.get("observedGeneration") {
        fill::zero(status, "observedGeneration", known.clone());
    }
    let mut known: Vec<&Value> =
        old.get("conditions").and_then(Value::as_array).into_iter().flatten().collect();
    for condition in fill::items(status, "conditions") {
        let Some(at) = known.iter().position(|old| old.get("type") == condition.get("type")) else {
            continue;
        };
        if let Some(generation) = known.remove(at).get("observedGeneration") {
            fill::zero(condition, "observedGeneration", generation.clone());
        }
    }
}
