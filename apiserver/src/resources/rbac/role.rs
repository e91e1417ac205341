//! Roles and ClusterRoles.

use knarr_api::field::ErrorList;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::pod_spec::scheduling::label_selector;

pub struct Role {
    pub namespaced: bool,
}

impl Strategy for Role {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, self.namespaced)
    }
}

fn validate(object: &Value, namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    root.items("rules").for_each(|rule| self::rule(&rule, namespaced, &mut errors));
    if let Some(aggregation) = root.some("aggregationRule") {
        if aggregation.list("clusterRoleSelectors").is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(aggregation.at("clusterRoleSelectors").required(detail));
        }
        aggregation.items("clusterRoleSelectors").for_each(|selector| label_selector(&selector, &mut errors));
    }
    errors
}

fn rule(rule: &At<'_>, namespaced: bool, errors: &mut ErrorList) {
    if !rule.filled("verbs") {
        errors.push(rule.at("verbs").required("verbs must contain at least one value"));
    }
    let urls = rule.at("nonResourceURLs");
    if rule.filled("nonResourceURLs") {
        if namespaced {
            errors.push(urls.invalid("namespaced rules cannot apply to non-resource URLs"));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| rule.filled(field)) {
            errors.push(urls.invalid("rules cannot apply to both regular resources and non-resource URLs"));
        }
        return;
    }
    if !rule.filled("apiGroups") {
        errors.push(rule.at("apiGroups").required("resource rules must supply at least one api group"));
    }
    if !rule.filled("resources") {
        errors.push(rule.at("resources").required("resource rules must supply at least one resource"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn roles_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "n"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        });
        check(
            &Role { namespaced: true },
            |object| validate(object, true),
            &valid,
            &[
                (
                    "/rules/0/verbs",
                    json!([]),
                    "rules[0].verbs: Required value: verbs must contain at least one value",
                ),
                (
                    "/rules/0/resources",
                    json!([]),
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ),
                (
                    "/rules/0",
                    json!({"nonResourceURLs": ["/x"], "verbs": ["get"]}),
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                ),
            ],
        );
    }
}
