//! CSIStorageCapacities: what a driver has left, and where.

use knarr_api::field::{ErrorList, IMMUTABLE};
use knarr_api::names;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::{At, NOT_NEGATIVE, same};
use crate::resources::pod_spec::scheduling;

pub struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    if let Some(topology) = root.some("nodeTopology") {
        scheduling::label_selector(&topology, &mut errors);
    }
    root.at("storageClassName").check(&mut errors, names::dns_subdomain);
    let capacity = root.at("capacity");
    if capacity.quantity().is_some_and(|amount| amount.is_negative()) {
        errors.push(capacity.invalid(NOT_NEGATIVE));
    }
    errors
}

/// What the driver was asked about stays.
fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (new, old) = (At::root(object), At::root(old));
    for field in ["nodeTopology", "storageClassName"] {
        let (now, before) = (new.at(field), old.at(field));
        if !same(now.value(), before.value()) {
            errors.push(now.invalid_as(now.value().cloned().unwrap_or_default(), IMMUTABLE));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn capacities_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity", "metadata": {"name": "c"},
            "storageClassName": "fast", "capacity": "1Gi"});
        check(
            &CsiStorageCapacity,
            validate,
            &valid,
            &[
                (
                    "/capacity",
                    json!("-1"),
                    "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
                ),
                ("/storageClassName", json!("fast-1"), ""),
            ],
        );
        let immutable = "storageClassName: Invalid value: \"slow\": field is immutable";
        check_updates(
            &CsiStorageCapacity,
            update,
            &valid,
            &[("/storageClassName", json!("slow"), immutable), ("/capacity", json!("2Gi"), "")],
        );
    }
}
