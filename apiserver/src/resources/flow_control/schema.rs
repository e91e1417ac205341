//! FlowSchemas.

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::Value;

use super::conditions;
use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

const MAX_PRECEDENCE: i64 = 10_000;
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const EVERY_NAMESPACE: &str = "each member of this list must be '*' or a DNS-1123 label; ";

pub struct FlowSchema;

impl Strategy for FlowSchema {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            fill::zero(spec, "matchingPrecedence", 1000);
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        conditions(object, &mut errors);
        errors
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, name) = (At::root(object).at("spec"), object::name(object));
    let precedence = spec.at("matchingPrecedence");
    let value = precedence.i64().unwrap_or_default();
    if value <= 0 {
        errors.push(precedence.invalid_as(value, "must be a positive value"));
    }
    if value > MAX_PRECEDENCE {
        errors.push(precedence.invalid(format!("must not be greater than {MAX_PRECEDENCE}")));
    }
    if value == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(precedence.invalid(detail));
    }
    if let Some(method) = spec.some("distinguisherMethod") {
        let supported = ["ByNamespace", "ByUser"];
        if !supported.contains(&method.text("type")) {
            let value = method.value().cloned().unwrap_or_default();
            errors.push(Error::not_supported(method.at("type").path(), value, &supported));
        }
    }
    let level = spec.at("priorityLevelConfiguration").at("name");
    match level.str() {
        "" => errors.push(level.required("must reference a priority level")),
        _ => level.check(&mut errors, names::dns_subdomain),
    }
    for one in spec.items("rules") {
        rule(&one, &mut errors);
    }
    conditions(object, &mut errors);
    errors
}

fn rule(rule: &At<'_>, errors: &mut ErrorList) {
    if rule.list("subjects").is_empty() {
        errors.push(rule.at("subjects").required("subjects must contain at least one value"));
    }
    for one in rule.items("subjects") {
        subject(&one, errors);
    }
    if rule.list("resourceRules").is_empty() && rule.list("nonResourceRules").is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(rule.required(detail));
    }
    for one in rule.items("resourceRules") {
        resource_rule(&one, errors);
    }
    for one in rule.items("nonResourceRules") {
        path_rule(&one, errors);
    }
}

fn subject(subject: &At<'_>, errors: &mut ErrorList) {
    const KINDS: [(&str, &str); 3] =
        [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.text("kind");
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        errors.push(subject.at("kind").unsupported(&["Group", "ServiceAccount", "User"]));
        return;
    };
    match subject.some(own) {
        None => {
            let detail = format!("{own} is required when subject kind is '{kind}'");
            errors.push(subject.at(own).required(detail));
        }
        Some(found) if kind == "ServiceAccount" => service_account(&found, errors),
        Some(found) => found.at("name").require_text(errors),
    }
    // In the order in which upstream looks at the others.
    let others: [&str; 2] = match kind {
        "ServiceAccount" => ["user", "group"],
        "User" => ["serviceAccount", "group"],
        _ => ["serviceAccount", "user"],
    };
    for field in others {
        let wanted = KINDS.iter().find(|(_, known)| *known == field).map_or("", |(kind, _)| kind);
        if let Some(found) =
            KINDS.iter().find_map(|(_, known)| (*known == field).then(|| subject.some(known))?)
        {
            let detail = format!("{field} is forbidden when subject kind is not '{wanted}'");
            errors.push(found.forbidden(detail));
        }
    }
}

fn service_account(account: &At<'_>, errors: &mut ErrorList) {
    let (name, namespace) = (account.at("name"), account.at("namespace"));
    match name.str() {
        "" => errors.push(name.required("")),
        "*" => {}
        _ => name.check(errors, names::dns_subdomain),
    }
    match namespace.str() {
        "" => errors.push(namespace.required("must specify namespace for service account")),
        _ => namespace.check(errors, names::dns_label),
    }
}

/// `*` stands alone.
fn lonely_star(list: &At<'_>, values: &[&str], others: &str, errors: &mut ErrorList) -> bool {
    if !values.contains(&"*") {
        return false;
    }
    if values.len() > 1 {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {others}")));
    }
    true
}

fn verbs(rule: &At<'_>, errors: &mut ErrorList) {
    let (at, verbs) = (rule.at("verbs"), rule.texts("verbs").collect::<Vec<_>>());
    if verbs.is_empty() {
        errors.push(at.required("verbs must contain at least one value"));
    } else if !lonely_star(&at, &verbs, "verbs", errors) && verbs.iter().any(|verb| !VERBS.contains(verb)) {
        errors.push(at.unsupported(&VERBS));
    }
}

fn resource_rule(rule: &At<'_>, errors: &mut ErrorList) {
    verbs(rule, errors);
    for (field, one, others) in
        [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")]
    {
        let (at, values) = (rule.at(field), rule.texts(field).collect::<Vec<_>>());
        if values.is_empty() {
            errors.push(at.required(format!("resource rules must supply at least one {one}")));
        } else {
            lonely_star(&at, &values, others, errors);
        }
    }
    let (at, namespaces) = (rule.at("namespaces"), rule.texts("namespaces").collect::<Vec<_>>());
    if namespaces.is_empty() && !rule.flag("clusterScope") {
        let detail = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(at.required(detail));
    } else if !lonely_star(&at, &namespaces, "namespaces", errors) {
        for namespace in rule.items("namespaces") {
            let wrong = names::dns_label(namespace.str()).into_iter();
            errors.extend(wrong.map(|wrong| namespace.invalid(format!("{EVERY_NAMESPACE}{wrong}"))));
        }
    }
}

fn path_rule(rule: &At<'_>, errors: &mut ErrorList) {
    verbs(rule, errors);
    let (at, urls) = (rule.at("nonResourceURLs"), rule.texts("nonResourceURLs").collect::<Vec<_>>());
    if urls.is_empty() {
        errors.push(at.required("nonResourceURLs must contain at least one value"));
    } else if !lonely_star(&at, &urls, "non-resource URLs", errors) {
        for url in rule.items("nonResourceURLs") {
            errors.extend(path_fault(url.str()).map(|fault| url.invalid(fault)));
        }
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        path if !path.starts_with('/') => Some("must start with slash"),
        path if path.contains(' ') => Some("must not contain white-space"),
        path if path.contains("//") => Some("must not contain double slash"),
        path if path.trim_end_matches("/*").contains('*') || path.matches('*').count() > 1 => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn schemas_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "a"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "u"}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["n"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz", "/a/*"]}]}]}});
        check(
            &FlowSchema,
            validate,
            &valid,
            &[
                (
                    "/spec/matchingPrecedence",
                    json!(1),
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                ),
                (
                    "/spec/matchingPrecedence",
                    json!(10_001),
                    "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
                ),
                (
                    "/spec/priorityLevelConfiguration/name",
                    json!(""),
                    "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
                ),
                (
                    "/spec/rules/0/subjects",
                    json!([]),
                    "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                ),
                (
                    "/spec/rules/0/subjects/0/kind",
                    json!("Group"),
                    "[spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group', spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User']",
                ),
                (
                    "/spec/rules/0/resourceRules/0/verbs",
                    json!(["*", "get"]),
                    "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
                ),
                (
                    "/spec/rules/0/resourceRules/0/namespaces",
                    json!([]),
                    "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
                ),
                (
                    "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
                    json!(["x"]),
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
                ),
                (
                    "/spec/rules/0/nonResourceRules/0/nonResourceURLs",
                    json!(["/a*"]),
                    "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do suffix matching",
                ),
            ],
        );
    }
}
