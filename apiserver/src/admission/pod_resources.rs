//! What a pod asks for as a whole.

use std::collections::BTreeMap;

use knarr_api::quantity::Quantity;
use serde_json::Value;

use super::pod::items;

/// Amounts by resource name.
pub type Resources = BTreeMap<String, Quantity>;

/// `requests` or `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Requests,
    Limits,
}

impl Side {
    fn field(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// A resource list. Amounts that do not parse count as none; validation refuses the object for them.
pub fn resources(list: &Value) -> Resources {
    list.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::from_json(amount).ok()?)))
        .collect()
}

pub fn add(total: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let sum = total.get(name).map_or_else(|| amount.clone(), |present| present.add(amount));
        total.insert(name.clone(), sum);
    }
}

fn raise(total: &mut Resources, floor: &Resources) {
    for (name, amount) in floor {
        if total.get(name).is_none_or(|present| present < amount) {
            total.insert(name.clone(), amount.clone());
        }
    }
}

/// The sum over containers, or what starting up needs at its peak if that is more; what the pod itself says of cpu,
/// memory and huge pages counts before that.
pub fn of_pod(pod: &Value, side: Side) -> Resources {
    let (spec, field) = (&pod["spec"], side.field());
    let mut total = Resources::new();
    for container in items(&spec["containers"]) {
        add(&mut total, &resources(&container["resources"][field]));
    }
    let (mut sidecars, mut peak) = (Resources::new(), Resources::new());
    for container in items(&spec["initContainers"]) {
        let own = resources(&container["resources"][field]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            raise(&mut peak, &sidecars);
        } else {
            let mut together = own;
            add(&mut together, &sidecars);
            raise(&mut peak, &together);
        }
    }
    raise(&mut total, &peak);
    for (name, amount) in resources(&spec["resources"][field]) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            total.insert(name, amount);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn start_up_counts_when_it_needs_more_and_sidecars_always() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let pod = json!({"spec": {
            "containers": [{"resources": cpu("100m")}, {"resources": cpu("200m")}],
            "initContainers": [
                {"resources": cpu("50m"), "restartPolicy": "Always"},
                {"resources": cpu("1")},
            ],
        }});
        assert_eq!(of_pod(&pod, Side::Requests)["cpu"].to_string(), "1050m");
        assert!(of_pod(&pod, Side::Limits).is_empty());
    }
}
