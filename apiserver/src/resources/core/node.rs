//! Nodes.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList, Path, quote};
use knarr_api::names;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::{At, NOT_POSITIVE};
use crate::resources::fill;
use crate::resources::pod_spec::{amounts, scheduling};

pub struct Node;

impl Strategy for Node {
    fn set_defaults(&self, object: &mut Value) {
        let Some(status) = object.get_mut("status") else { return };
        fill::round_up(status, "capacity");
        fill::round_up(status, "allocatable");
        if let Some(capacity) = status.get("capacity").cloned() {
            fill::nil(status, "allocatable", capacity);
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        fill::nil(object, "status", json!({}));
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("configSource");
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        create(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        object::copy_field(object, old, "spec");
    }
}

fn create(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let (spec, status) = (root.at("spec"), root.at("status"));
    taints(&spec, &mut errors);
    resources(&status, &mut errors);
    let swap = At::new(
        status.at("nodeInfo").at("swap").get("capacity"),
        Path::new("metadata").child("nodeSwapStatus").child("capacity"),
    );
    if swap.i64().is_some_and(|capacity| capacity <= 0) {
        errors.push(swap.invalid(NOT_POSITIVE));
    }
    features(&status, &mut errors);
    for cidr in spec.items("podCIDRs") {
        errors.extend(names::cidr_legacy(cidr.path(), cidr.str(), &[]));
    }
    let families: BTreeSet<bool> = spec.texts("podCIDRs").map(|cidr| cidr.contains(':')).collect();
    let count = spec.list("podCIDRs").len();
    if count > 1 && (families.len() < 2 || count > 2) {
        errors.push(spec.at("podCIDRs").invalid("may specify no more than one CIDR for each IP family"));
    }
    errors
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (root, was) = (At::root(object), At::root(old));
    let (spec, status, old_spec) = (root.at("spec"), root.at("status"), was.at("spec"));
    resources(&status, &mut errors);
    features(&status, &mut errors);
    let addresses = status.list("addresses");
    for (i, address) in status.items("addresses").enumerate() {
        if addresses[..i].iter().any(|other| Some(other) == address.value()) {
            errors.push(address.duplicate());
        }
    }
    const CIDRS: &str = "node updates may not change podCIDR except from \"\" to valid";
    let (new, old): (Vec<&str>, Vec<&str>) =
        (spec.texts("podCIDRs").collect(), old_spec.texts("podCIDRs").collect());
    if !old.is_empty() {
        let changed =
            if new.len() == old.len() { new.iter().zip(&old).filter(|(a, b)| a != b).count() } else { 1 };
        errors.extend((0..changed).map(|_| spec.at("podCIDRs").forbidden(CIDRS)));
    }
    let provider = spec.at("providerID");
    if old_spec.filled("providerID") && old_spec.text("providerID") != provider.str() {
        errors.push(provider.forbidden("node updates may not change providerID except from \"\" to valid"));
    }
    taints(&spec, &mut errors);
    if spec.text("externalID") != old_spec.text("externalID") {
        errors.push(spec.at("externalID").forbidden("may not be updated"));
    }
    errors
}

/// Upstream says that taints are in the metadata.
fn taints(spec: &At<'_>, errors: &mut ErrorList) {
    let path = Path::new("metadata").child("taints");
    let mut seen = BTreeSet::new();
    for (i, taint) in spec.list("taints").iter().enumerate() {
        let taint = At::new(Some(taint), path.index(i));
        taint.at("key").check(errors, names::qualified_name);
        let value = taint.at("value");
        let wrong = names::label_value(value.str());
        if !wrong.is_empty() {
            errors.push(value.invalid(wrong.join(";")));
        }
        taint.at("effect").require_one_of(errors, &scheduling::TAINT_EFFECTS);
        if !seen.insert((taint.text("effect"), taint.text("key"))) {
            let mut error = taint.duplicate();
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
}

fn resources(status: &At<'_>, errors: &mut ErrorList) {
    for field in ["capacity", "allocatable"] {
        let path = status.path().child(field);
        for (name, amount) in status.entries(field) {
            amounts::amount(name, &At::new(amount.value(), path.child(name.to_owned())), errors);
        }
    }
}

fn features(status: &At<'_>, errors: &mut ErrorList) {
    let mut last: Option<&str> = None;
    for feature in status.items("declaredFeatures") {
        let name = feature.str();
        match last {
            Some(last) if last == name => errors.push(Error::duplicate(feature.path(), name)),
            Some(last) if last > name => errors.push(feature.invalid("list must be sorted alphabetically")),
            _ => {}
        }
        last = Some(name);
        if let Some(wrong) = feature_name(name) {
            errors.push(feature.invalid(wrong));
        }
    }
}

fn feature_name(name: &str) -> Option<String> {
    if name.len() > names::DNS_SUBDOMAIN_MAX {
        let max = names::DNS_SUBDOMAIN_MAX;
        return Some(format!("invalid feature name {}: must be no more than {max} characters", quote(name)));
    }
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let fits = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(plain);
    (!fits).then(|| {
        format!(
            "invalid feature name {}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
            quote(name)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn nodes_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "providerID": "p"},
            "status": {"capacity": {"cpu": "1"}},
        });
        check(
            &Node,
            create,
            &valid,
            &[
                (
                    "/spec/taints",
                    json!([{"key": "k", "effect": "X"}]),
                    "metadata.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                ),
                (
                    "/spec/podCIDRs",
                    json!(["10.0.0.0/24", "10.0.1.0/24"]),
                    "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
                ),
                (
                    "/status/capacity/pods",
                    json!("500m"),
                    "[status.capacity.pods: Invalid value: \"500m\": must be an integer, status.allocatable.pods: Invalid value: \"500m\": must be an integer]",
                ),
            ],
        );
        check_updates(
            &Node,
            update,
            &valid,
            &[
                ("/spec/unschedulable", json!(true), ""),
                (
                    "/spec/providerID",
                    json!("q"),
                    "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                ),
                (
                    "/spec/podCIDRs",
                    json!(["10.0.1.0/24"]),
                    "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                ),
            ],
        );
    }
}
