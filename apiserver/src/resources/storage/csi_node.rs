//! CSINodes: which drivers run on a node.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList, IMMUTABLE};
use knarr_api::names;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::pod_spec::volumes;

const NODE_ID_MAX: usize = 256;

pub struct CsiNode;

impl Strategy for CsiNode {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old)
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut names_seen = BTreeSet::new();
    for driver in At::root(object).at("spec").items("drivers") {
        let name = driver.at("name");
        volumes::csi_driver_name(&name, &mut errors);
        let id = driver.at("nodeID");
        if id.str().is_empty() {
            errors.push(id.required(""));
        }
        if id.str().len() > NODE_ID_MAX {
            errors.push(id.invalid(format!("must be {NODE_ID_MAX} characters or less")));
        }
        driver.at("allocatable").at("count").nonnegative(&mut errors);
        if !names_seen.insert(name.str()) {
            errors.push(Error::duplicate(name.path(), name.str()));
        }
        topology(&driver, &mut errors);
    }
    errors
}

fn topology(driver: &At<'_>, errors: &mut ErrorList) {
    let mut keys = BTreeSet::new();
    for key in driver.texts("topologyKeys") {
        if key.is_empty() {
            errors.push(driver.required(""));
        }
        if !keys.insert(key) {
            errors.push(Error::duplicate(driver.path(), key));
        }
        let wrong = names::qualified_name(key).into_iter();
        errors.extend(wrong.map(|wrong| driver.invalid_as(key, wrong)));
    }
}

/// A driver that stays is the same but for how many volumes it takes.
fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = validate(object);
    let without_count = |driver: &Value| {
        let mut driver = driver.clone();
        driver.as_object_mut().map(|fields| fields.remove("allocatable"));
        driver
    };
    let spec = At::root(object).at("spec");
    for before in At::root(old).at("spec").list("drivers") {
        for now in spec.list("drivers").iter().filter(|now| now["name"] == before["name"]) {
            let (before, now) = (without_count(before), without_count(now));
            if before != now {
                errors.push(spec.at("drivers").invalid_as(now, IMMUTABLE));
            }
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
    fn nodes_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n"},
            "spec": {"drivers": [{"name": "csi.example.com", "nodeID": "a", "allocatable": {"count": 1}, "topologyKeys": ["zone"]}]}});
        check(
            &CsiNode,
            validate,
            &valid,
            &[
                ("/spec/drivers/0/nodeID", json!(""), "spec.drivers[0].nodeID: Required value"),
                (
                    "/spec/drivers/0/allocatable/count",
                    json!(-1),
                    "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
                ),
                (
                    "/spec/drivers/0/topologyKeys",
                    json!(["a", "a"]),
                    "spec.drivers[0]: Duplicate value: \"a\"",
                ),
                (
                    "/spec/drivers/1",
                    json!({"name": "csi.example.com", "nodeID": "b"}),
                    "spec.drivers[1].name: Duplicate value: \"csi.example.com\"",
                ),
            ],
        );
        check_updates(
            &CsiNode,
            update,
            &valid,
            &[
                ("/spec/drivers/0/allocatable/count", json!(2), ""),
                ("/spec/drivers/0/nodeID", json!("b"), "spec.drivers: Invalid value: {"),
                ("/spec/drivers", json!([]), ""),
            ],
        );
    }
}
