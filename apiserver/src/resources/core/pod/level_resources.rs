//! Resources of a pod as a whole: what is not given follows from the containers'.

use std::collections::BTreeMap;

use knarr_api::quantity::Quantity;
use serde_json::{Map, Value};

type Amounts = BTreeMap<String, Quantity>;

/// Whether a pod as a whole may ask for the resource.
pub fn is_supported(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Completes `spec.resources`, where some of it is given.
pub fn set(spec: &mut Value) {
    let given = |kind: &str, spec: &Value| {
        spec.pointer(&format!("/resources/{kind}")).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (mut limits, mut requests) = (given("limits", spec), given("requests", spec));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, amount) in aggregate(spec, "limits") {
        if name.starts_with("hugepages-") && !requests.contains_key(&name) {
            limits.entry(name).or_insert_with(|| amount.to_string().into());
        }
    }
    if !limits.is_empty() {
        for (name, amount) in aggregate(spec, "requests") {
            if matches!(name.as_str(), "cpu" | "memory") {
                requests.entry(name).or_insert_with(|| amount.to_string().into());
            }
        }
        for (name, amount) in limits.iter().filter(|(name, _)| is_supported(name)) {
            requests.entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
    store(spec, "limits", limits);
    store(spec, "requests", requests);
}

fn store(spec: &mut Value, kind: &str, amounts: Map<String, Value>) {
    if !amounts.is_empty() {
        spec["resources"][kind] = Value::Object(amounts);
    }
}

/// What the containers need together: all that run side by side, or an init container beside the sidecars before it
/// if that is more.
pub fn aggregate(spec: &Value, kind: &str) -> Amounts {
    let containers = |field: &str| spec.get(field).and_then(Value::as_array).into_iter().flatten();
    let mut total = Amounts::new();
    for container in containers("containers") {
        add(&mut total, &amounts(container, kind));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in containers("initContainers") {
        let own = amounts(container, kind);
        let mut now = sidecars.clone();
        add(&mut now, &own);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut total, &own);
            sidecars = now.clone();
        }
        max(&mut starting, &now);
    }
    max(&mut total, &starting);
    total
}

fn amounts(container: &Value, kind: &str) -> Amounts {
    let list =
        container.get("resources").and_then(|resources| resources.get(kind)).and_then(Value::as_object);
    let parsed = |(name, amount): (&String, &Value)| Some((name.clone(), Quantity::from_json(amount).ok()?));
    list.into_iter().flatten().filter_map(parsed).collect()
}

fn add(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        let sum = to.get(name).map_or_else(|| amount.clone(), |known| known.add(amount));
        to.insert(name.clone(), sum);
    }
}

fn max(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        if to.get(name).is_none_or(|known| known < amount) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_of_the_pod_follow_from_its_containers_then_from_its_limits() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = json!("Always");
        let mut spec = json!({
            "containers": [container("500m"), container("500m")],
            "initContainers": [sidecar, container("3")],
            "resources": {"limits": {"cpu": "8", "memory": "1Gi"}},
        });
        set(&mut spec);
        assert_eq!(spec["resources"]["requests"], json!({"cpu": "4", "memory": "1Gi"}));
    }
}
