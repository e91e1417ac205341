//! CSIDrivers.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

const SHORTEST_PERIOD: i64 = 10;
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;

pub struct CsiDriver;

impl Strategy for CsiDriver {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::nil(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            fill::nil(spec, field, false);
        }
        fill::nil(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        fill::zero(spec, "volumeLifecycleModes", json!(["Persistent"]));
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    for (field, name) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.has(field) {
            errors.push(spec.named(field, name).required(""));
        }
    }
    if spec.has("fsGroupPolicy") {
        spec.at("fsGroupPolicy").one_of(&mut errors, &["File", "None", "ReadWriteOnceWithFSType"]);
    }
    tokens(&spec, &mut errors);
    for mode in spec.texts("volumeLifecycleModes") {
        let supported = ["Persistent", "Ephemeral"];
        if !supported.contains(&mode) {
            let path = spec.at("volumeLifecycleModes").path().clone();
            errors.push(Error::not_supported(&path, mode, &supported));
        }
    }
    if !spec.has("seLinuxMount") {
        errors.push(spec.at("seLinuxMount").required(""));
    }
    let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
    if period.i64().is_some_and(|seconds| seconds < SHORTEST_PERIOD) {
        errors.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    if spec.has("serviceAccountTokenInSecrets") && spec.list("tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(spec.at("serviceAccountTokenInSecrets").invalid(detail));
    }
    errors
}

fn tokens(spec: &At<'_>, errors: &mut ErrorList) {
    let mut audiences = BTreeSet::new();
    for request in spec.items("tokenRequests") {
        let audience = request.at("audience");
        if !audiences.insert(audience.str()) {
            errors.push(Error::duplicate(audience.path(), audience.str()));
            continue;
        }
        let life = request.at("expirationSeconds");
        if life.i64().is_some_and(|seconds| seconds < SHORTEST_TOKEN) {
            errors.push(life.invalid("may not specify a duration less than 10 minutes"));
        }
        if life.i64().is_some_and(|seconds| seconds > LONGEST_TOKEN) {
            errors.push(life.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(object);
    let (new, old) = (At::root(object).at("spec"), At::root(old).at("spec"));
    new.named("attachRequired", "attachedRequired").immutable(&mut errors, &old.at("attachRequired"));
    new.at("volumeLifecycleModes").immutable(&mut errors, &old.at("volumeLifecycleModes"));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn drivers_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "d"}, "spec": {}});
        let twice = json!([{"audience": "a"}, {"audience": "a"}]);
        check(
            &CsiDriver,
            validate,
            &valid,
            &[
                (
                    "/spec/fsGroupPolicy",
                    json!("x"),
                    "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                ),
                ("/spec/tokenRequests", twice, "spec.tokenRequests[1].audience: Duplicate value: \"a\""),
                (
                    "/spec/tokenRequests",
                    json!([{"audience": "a", "expirationSeconds": 1}]),
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                ),
                (
                    "/spec/volumeLifecycleModes",
                    json!(["x"]),
                    "spec.volumeLifecycleModes: Unsupported value: \"x\": supported values: \"Persistent\", \"Ephemeral\"",
                ),
                (
                    "/spec/nodeAllocatableUpdatePeriodSeconds",
                    json!(9),
                    "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
                ),
            ],
        );
        let immutable = "spec.attachedRequired: Invalid value: false: field is immutable";
        check_updates(
            &CsiDriver,
            update,
            &valid,
            &[("/spec/attachRequired", json!(false), immutable), ("/spec/podInfoOnMount", json!(true), "")],
        );
    }
}
