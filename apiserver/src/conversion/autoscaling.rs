//! HorizontalPodAutoscalers: `autoscaling/v1` shows what it has no fields for in annotations.

use knarr_api::status::Status;
use serde_json::{Map, Value, json};

use crate::object;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// (annotation, section, field of v2)
const CARRIED: &[(&str, &str, &str)] = &[
    (METRICS, "spec", "metrics"),
    (BEHAVIOR, "spec", "behavior"),
    (CURRENT_METRICS, "status", "currentMetrics"),
    (CONDITIONS, "status", "conditions"),
];

pub fn v1_to_v2(object: &mut Value) -> Result<(), Status> {
    for (annotation, section, field) in CARRIED {
        // An annotation is free text: what is not of the field's form is not taken over.
        let fits = |value: &Value| if *field == "behavior" { value.is_object() } else { value.is_array() };
        if let Some(value) = take_annotation(object, annotation)?.filter(fits) {
            object::map_at(object, section)[*field] = value;
        }
    }
    if let Some(target) = take(object, "spec", "targetCPUUtilizationPercentage") {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": target}}});
        prepend(object::map_at(object, "spec"), "metrics", metric);
    }
    if let Some(current) = take(object, "status", "currentCPUUtilizationPercentage") {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": current}}});
        prepend(object::map_at(object, "status"), "currentMetrics", metric);
    }
    Ok(())
}

pub fn v2_to_v1(object: &mut Value) -> Result<(), Status> {
    if let Some(target) = take_cpu(object, "spec", "metrics", "/resource/target/averageUtilization") {
        object::map_at(object, "spec")["targetCPUUtilizationPercentage"] = target;
    }
    if let Some(current) =
        take_cpu(object, "status", "currentMetrics", "/resource/current/averageUtilization")
    {
        object::map_at(object, "status")["currentCPUUtilizationPercentage"] = current;
    }
    for (annotation, section, field) in CARRIED {
        let Some(value) = take(object, section, field).filter(|value| !is_empty(value)) else { continue };
        let text = serde_json::to_string(&value).map_err(Status::internal)?;
        let annotations =
            object::metadata_mut(object).entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        annotations[*annotation] = text.into();
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn take(object: &mut Value, section: &str, field: &str) -> Option<Value> {
    object.get_mut(section)?.as_object_mut()?.remove(field)
}

fn take_annotation(object: &mut Value, name: &str) -> Result<Option<Value>, Status> {
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(Value::String(text)) = annotations.and_then(|map| map.remove(name)) else { return Ok(None) };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Status::bad_request(format!("annotation {name}: {error}")))
}

fn prepend(section: &mut Value, field: &str, value: Value) {
    match section.get_mut(field).and_then(Value::as_array_mut) {
        Some(list) => list.insert(0, value),
        None => section[field] = json!([value]),
    }
}

/// Takes the first CPU utilization out of a list of metrics.
fn take_cpu(object: &mut Value, section: &str, field: &str, pointer: &str) -> Option<Value> {
    let list = object.get_mut(section)?.get_mut(field)?.as_array_mut()?;
    let is_cpu = |metric: &Value| {
        metric.pointer("/resource/name").and_then(Value::as_str) == Some("cpu")
            && metric.pointer(pointer).is_some()
    };
    let at = list.iter().position(is_cpu)?;
    list.remove(at).pointer(pointer).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_target_and_other_metrics_survive_both_ways() {
        let v2 = json!({"metadata": {}, "spec": {"maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            {"type": "Pods", "pods": {"metric": {"name": "q"}}}]}});
        let mut v1 = v2.clone();
        v2_to_v1(&mut v1).unwrap();
        assert_eq!(v1["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        assert!(v1["metadata"]["annotations"][METRICS].as_str().unwrap().contains("\"q\""));
        v1_to_v2(&mut v1).unwrap();
        assert_eq!(v1["spec"], v2["spec"]);
    }
}
