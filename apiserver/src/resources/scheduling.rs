//! PriorityClasses.

use knarr_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::at::At;
use super::fill;
use crate::registry::{Context, Strategy};

const HIGHEST: i64 = 1_000_000_000;
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub struct PriorityClass;

impl Strategy for PriorityClass {
    fn set_defaults(&self, object: &mut Value) {
        fill::nil(object, "preemptionPolicy", "PreemptLowerPriority");
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
    let root = At::root(object);
    let (name, value) = (crate::object::name(object), root.int("value").unwrap_or_default());
    if name.starts_with("system-") {
        if let Some(wrong) = wrong_system_class(name, value, root.flag("globalDefault")) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {wrong}"
            );
            errors.push(Error::forbidden(&Path::new("metadata").child("name"), detail));
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(root.at("value").forbidden(detail));
    }
    if let Some(policy) = root.some("preemptionPolicy") {
        policy.require_one_of(&mut errors, &["PreemptLowerPriority", "Never"]);
    }
    errors
}

fn wrong_system_class(name: &str, value: i64, default: bool) -> Option<String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, known)) if *known != value => Some(format!("value of {name} PriorityClass must be {known}")),
        Some(_) if default => Some(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => None,
    }
}

fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (root, was) = (At::root(object), At::root(old));
    if root.int("value").unwrap_or_default() != was.int("value").unwrap_or_default() {
        errors.push(root.at("value").forbidden("may not be changed in an update."));
    }
    root.at("preemptionPolicy").immutable(&mut errors, &was.at("preemptionPolicy"));
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn priority_classes_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "p"}, "value": 5,
        });
        check(
            &PriorityClass,
            validate,
            &valid,
            &[
                (
                    "/value",
                    json!(1_000_000_001),
                    "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                ),
                (
                    "/metadata/name",
                    json!("system-x"),
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
                ),
                (
                    "/preemptionPolicy",
                    json!("X"),
                    "preemptionPolicy: Unsupported value: \"X\": supported values: \"PreemptLowerPriority\", \"Never\"",
                ),
            ],
        );
        check_updates(
            &PriorityClass,
            update,
            &valid,
            &[("/value", json!(6), "value: Forbidden: may not be changed in an update.")],
        );
    }
}
