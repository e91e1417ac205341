//! Scaling.

use super::super::Cell;
use super::super::view::clipped;
use super::View;

pub(super) fn scale(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.int("spec.replicas").into(),
        object.int("status.replicas").into(),
        object.age(),
    ]
}

pub(super) fn horizontal_pod_autoscaler(object: View<'_>) -> Vec<Cell<'_>> {
    let target = object.at("spec.scaleTargetRef");
    vec![
        object.name(),
        format!("{}/{}", target.str("kind"), target.str("name")).into(),
        targets(object).into(),
        object.scalar_or("spec.minReplicas", "<unset>").into(),
        object.int("spec.maxReplicas").into(),
        object.int("status.currentReplicas").into(),
        object.age(),
    ]
}

fn targets(object: View<'_>) -> String {
    let current: Vec<View<'_>> = object.items("status.currentMetrics").collect();
    let shown = object.items("spec.metrics").enumerate();
    let mut metrics: Vec<String> =
        shown.map(|(i, metric)| self::metric(metric, current.get(i).copied())).collect();
    // autoscaling/v1 knows one metric, and keeps it in fields of its own.
    let target = object.at("spec.targetCPUUtilizationPercentage");
    if let (true, Some(target)) = (metrics.is_empty(), target.value().as_i64()) {
        let current = object.at("status.currentCPUUtilizationPercentage").value().as_i64();
        let current = current.map_or("<unknown>".to_owned(), |current| format!("{current}%"));
        metrics.push(format!("cpu: {current}/{target}%"));
    }
    if metrics.is_empty() { "<none>".to_owned() } else { clipped(metrics, 2, ", ") }
}

/// `current/target` of one metric, with its resource's name in front where it is one.
fn metric(spec: View<'_>, status: Option<View<'_>>) -> String {
    let (field, resource) = match spec.str("type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let target = spec.at(field).at("target");
    let text = |value: View<'_>| match value.value() {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let found = |name: &str| {
        let value =
            status.map(|status| status.at(field).at("current").at(name)).filter(|value| !value.is_null());
        value.map(text)
    };
    let unknown = || "<unknown>".to_owned();
    if resource {
        let name = spec.at(field).str("name");
        let average = target.at("averageValue");
        if !average.is_null() {
            return format!("{name}: {}/{}", found("averageValue").unwrap_or_else(unknown), text(average));
        }
        let current = found("averageUtilization").map_or_else(unknown, |percent| format!("{percent}%"));
        let target = target.at("averageUtilization");
        let target = if target.is_null() { "<auto>".to_owned() } else { format!("{}%", text(target)) };
        return format!("{name}: {current}/{target}");
    }
    let average = target.at("averageValue");
    if average.is_null() {
        return format!("{}/{}", found("value").unwrap_or_else(unknown), text(target.at("value")));
    }
    let suffix = if field == "pods" { "" } else { " (avg)" };
    format!("{}/{}{suffix}", found("averageValue").unwrap_or_else(unknown), text(average))
}
