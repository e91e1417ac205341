//! RoleBindings and ClusterRoleBindings.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::Value;

use super::GROUP;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

pub struct Binding {
    pub namespaced: bool,
}

impl Strategy for Binding {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(role) = object.get_mut("roleRef") {
            fill::zero(role, "apiGroup", GROUP);
        }
        for subject in fill::items(object, "subjects") {
            if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
                fill::zero(subject, "apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, self.namespaced)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        update(object, old, self.namespaced)
    }
}

fn validate(object: &Value, namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let role = root.at("roleRef");
    role.at("apiGroup").one_of(&mut errors, &[GROUP]);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    role.at("kind").one_of(&mut errors, kinds);
    role.at("name").require(&mut errors, names::path_segment_name);
    root.items("subjects").for_each(|subject| self::subject(&subject, namespaced, &mut errors));
    errors
}

fn subject(subject: &At<'_>, namespaced: bool, errors: &mut ErrorList) {
    let (name, group) = (subject.at("name"), subject.at("apiGroup"));
    name.require_text(errors);
    match subject.text("kind") {
        "ServiceAccount" => {
            if !name.str().is_empty() {
                name.check(errors, names::dns_subdomain);
            }
            if !group.str().is_empty() {
                errors.push(group.unsupported(&[""]));
            }
            if !namespaced {
                subject.at("namespace").require_text(errors);
            }
        }
        "User" | "Group" => group.one_of(errors, &[GROUP]),
        _ => errors.push(subject.at("kind").unsupported(&["ServiceAccount", "User", "Group"])),
    }
}

fn update(object: &Value, old: &Value, namespaced: bool) -> ErrorList {
    let mut errors = validate(object, namespaced);
    if object.get("roleRef") != old.get("roleRef") {
        errors.push(At::root(object).at("roleRef").invalid("cannot change roleRef"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn bindings_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "b", "namespace": "n"},
            "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}],
        });
        let binding = Binding { namespaced: true };
        check(
            &binding,
            |object| validate(object, true),
            &valid,
            &[
                (
                    "/roleRef/kind",
                    json!("X"),
                    "roleRef.kind: Unsupported value: \"X\": supported values: \"Role\", \"ClusterRole\"",
                ),
                ("/roleRef/name", json!(""), "roleRef.name: Required value"),
                (
                    "/subjects/0/kind",
                    json!("X"),
                    "subjects[0].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
                ),
                (
                    "/subjects/0/apiGroup",
                    json!("x"),
                    "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
                ),
            ],
        );
        check_updates(
            &binding,
            |object, old| update(object, old, true),
            &valid,
            &[(
                "/roleRef/name",
                json!("s"),
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"s\"}: cannot change roleRef",
            )],
        );
    }
}
