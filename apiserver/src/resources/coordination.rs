//! Leases.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::Value;

use super::at::At;
use crate::registry::{Context, Strategy};

pub struct Lease;

impl Strategy for Lease {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let duration = spec.at("leaseDurationSeconds");
    if duration.i64().is_some_and(|seconds| seconds <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    spec.at("leaseTransitions").nonnegative(&mut errors);
    if let Some(strategy) = spec.some("strategy") {
        match strategy.str().contains('/') {
            true => strategy.check(&mut errors, names::qualified_name),
            false => strategy.one_of(&mut errors, &["OldestEmulationVersion"]),
        }
    }
    if spec.filled("preferredHolder") && !spec.filled("strategy") {
        errors.push(spec.at("preferredHolder").forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn leases_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": "n"},
            "spec": {"leaseDurationSeconds": 10},
        });
        check(
            &Lease,
            validate,
            &valid,
            &[
                (
                    "/spec/leaseDurationSeconds",
                    json!(0),
                    "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                ),
                (
                    "/spec/leaseTransitions",
                    json!(-1),
                    "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/spec/preferredHolder",
                    json!("x"),
                    "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
                ),
            ],
        );
    }
}
