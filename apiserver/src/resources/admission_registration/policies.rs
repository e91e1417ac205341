//! ValidatingAdmissionPolicies, MutatingAdmissionPolicies and their bindings.

use std::collections::BTreeSet;
use std::sync::Arc;

use knarr_api::cel::{Environment, Object, Type};
use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::Value;

use super::expressions::{compiles, match_conditions};
use super::{At, fill, label_selector, matching, rule, rules};
use crate::admission::policy::{Scope, environment, variables};
use crate::object;
use crate::registry::{Context, Strategy};

const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;

pub struct Policy;

impl Strategy for Policy {
    fn set_defaults(&self, object: &mut Value) {
        let is_binding = is_binding(object);
        let Some(spec) = object.get_mut("spec") else { return };
        if !is_binding {
            fill::nil(spec, "failurePolicy", "Fail");
        }
        for field in ["matchConstraints", "matchResources"] {
            if let Some(resources) = spec.get_mut(field) {
                matching(resources);
                rules(resources, "resourceRules");
                rules(resources, "excludeResourceRules");
            }
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }
}

fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

fn is_binding(object: &Value) -> bool {
    kind(object).ends_with("Binding")
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.at("spec");
    let mutating = kind(object).starts_with("Mutating");
    if is_binding(object) {
        binding(&spec, mutating, &mut errors);
    } else {
        policy(&spec, object::name(object), mutating, &mut errors);
    }
    errors
}

fn policy(spec: &At<'_>, name: &str, mutating: bool, errors: &mut ErrorList) {
    if let Some(failure) = spec.some("failurePolicy") {
        failure.one_of(errors, &["Fail", "Ignore"]);
    }
    if let Some(kind) = spec.some("paramKind") {
        param_kind(&kind, errors);
    }
    match spec.some("matchConstraints") {
        None => errors.push(spec.at("matchConstraints").required("")),
        Some(constraints) => {
            match_resources(&constraints, errors);
            if constraints.list("resourceRules").is_empty() {
                errors.push(constraints.at("resourceRules").required(""));
            }
            if mutating {
                only_writes(&constraints, errors);
            }
        }
    }
    let params = spec.has("paramKind");
    match_conditions(spec, params, errors);
    let scope = Scope { params, authorizer: true, namespace: true, mutation: mutating };
    let known = declared(spec, scope, errors);
    let env = |authorizer: bool| {
        environment(Scope { authorizer, ..scope }, &Type::Dyn, &Type::Dyn).with("variables", known.clone())
    };
    if mutating {
        mutations(spec, &env(true), errors);
    } else {
        validations(spec, name, &env(true), &env(false), errors);
    }
}

/// The variables, each of which may name those before it.
fn declared(spec: &At<'_>, scope: Scope, errors: &mut ErrorList) -> Type {
    let mut known = Vec::new();
    for variable in spec.items("variables") {
        let (name, expression) = (variable.at("name"), variable.at("expression"));
        if name.str().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.str()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        if expression.str().trim().is_empty() {
            errors.push(expression.required("expression is not specified"));
            continue;
        }
        let env = environment(scope, &Type::Dyn, &Type::Dyn).with("variables", variables(&known));
        let of = compiles(&expression, expression.str(), &env, &[], errors);
        known.push((name.str().to_owned(), of.unwrap_or(Type::Dyn)));
    }
    variables(&known)
}

fn is_identifier(name: &str) -> bool {
    knarr_api::cel::escape(name).as_deref() == Some(name)
}

fn validations(
    spec: &At<'_>,
    name: &str,
    env: &Environment,
    without_authorizer: &Environment,
    errors: &mut ErrorList,
) {
    if spec.list("validations").is_empty() && spec.list("auditAnnotations").is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(spec.at("validations").required(why));
        errors.push(spec.at("auditAnnotations").required(why));
        return;
    }
    for validation in spec.items("validations") {
        self::validation(&validation, env, without_authorizer, errors);
    }
    let annotations = spec.at("auditAnnotations");
    if spec.list("auditAnnotations").len() > MAX_ANNOTATIONS {
        errors
            .push(annotations.invalid(format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations")));
    }
    let mut seen = BTreeSet::new();
    for annotation in spec.items("auditAnnotations") {
        let key = annotation.at("key");
        if name.is_empty() {
            errors.push(key.invalid("requires metadata.name be non-empty"));
        } else {
            let whole = format!("{name}/{}", key.str());
            let wrong = names::qualified_name(&whole);
            errors.extend(wrong.into_iter().map(|wrong| key.invalid_as(whole.as_str(), wrong)));
        }
        let value = annotation.at("valueExpression");
        let expression = value.str().trim();
        if expression.is_empty() {
            errors.push(value.required("valueExpression is not specified"));
        } else if expression.len() > MAX_ANNOTATION_EXPRESSION {
            errors
                .push(value.required(format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length")));
        } else {
            compiles(&value, expression, env, &[Type::String, Type::Null], errors);
        }
        if !seen.insert(key.str()) {
            errors.push(key.duplicate());
        }
    }
}

fn validation(of: &At<'_>, env: &Environment, without_authorizer: &Environment, errors: &mut ErrorList) {
    let expression = of.at("expression");
    if expression.str().trim().is_empty() {
        errors.push(expression.required("expression is not specified"));
    } else {
        compiles(&expression, expression.str(), env, &[Type::Bool], errors);
    }
    let message = of.at("messageExpression");
    match (message.str(), message.str().trim()) {
        ("", _) => {}
        (_, "") => errors.push(message.invalid("must be non-empty if specified")),
        (written, _) => {
            compiles(&message, written, without_authorizer, &[Type::String], errors);
        }
    }
    let message = of.at("message");
    match (message.str(), message.str().trim()) {
        ("", _) => {}
        (_, "") => errors.push(message.invalid("must be non-empty if specified")),
        (_, text) if text.contains(['\n', '\r']) => {
            errors.push(message.invalid("must not contain line breaks"))
        }
        _ => {}
    }
    if let Some(reason) = of.some("reason") {
        reason.one_of(errors, &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"]);
    }
}

fn mutations(spec: &At<'_>, env: &Environment, errors: &mut ErrorList) {
    if spec.list("mutations").is_empty() {
        errors.push(spec.at("mutations").required("mutations must contain at least one item"));
    }
    let named = |name: &str| Type::Object(Arc::new(Object { name: name.to_owned(), ..Object::default() }));
    for mutation in spec.items("mutations") {
        let (apply, patch) = ("applyConfiguration", "jsonPatch");
        let (own, other, wanted) = match mutation.text("patchType") {
            "" => {
                errors.push(mutation.at("patchType").required(""));
                continue;
            }
            "JSONPatch" => (patch, apply, Type::list(named("JSONPatch"))),
            "ApplyConfiguration" => (apply, patch, named("Object")),
            _ => {
                let supported = ["ApplyConfiguration", "JSONPatch"];
                errors.push(mutation.at("patchType").unsupported(&supported));
                continue;
            }
        };
        let form = mutation.text("patchType");
        match mutation.some(own) {
            None => {
                errors.push(mutation.at(own).required(format!("must be specified when patchType is {form}")))
            }
            Some(of) => {
                let expression = of.at("expression");
                if expression.str().trim().is_empty() {
                    errors.push(expression.required(""));
                } else {
                    compiles(&expression, expression.str().trim(), env, &[wanted], errors);
                }
            }
        }
        if mutation.has(other) {
            let shown = format!("{{{other}}}");
            let why = format!("must not be specified when patchType is {form}");
            errors.push(mutation.at(other).invalid_as(shown.as_str(), why));
        }
    }
    match spec.some("reinvocationPolicy") {
        None => errors.push(spec.at("reinvocationPolicy").required("")),
        Some(policy) => policy.one_of(errors, &["IfNeeded", "Never"]),
    }
}

/// Only what is written can be changed.
fn only_writes(resources: &At<'_>, errors: &mut ErrorList) {
    for rule in resources.items("resourceRules") {
        for operation in rule.items("operations").filter(|of| !matches!(of.str(), "CREATE" | "UPDATE")) {
            errors.push(operation.unsupported(&["CREATE", "UPDATE"]));
        }
    }
}

fn param_kind(kind: &At<'_>, errors: &mut ErrorList) {
    let version = kind.at("apiVersion");
    match version.str().split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.push(version.required("")),
        [_] | [_, _] => {
            let (group, name) = version.str().split_once('/').unwrap_or(("", version.str()));
            if !group.is_empty() {
                let wrong = names::dns_subdomain(group);
                errors.extend(wrong.into_iter().map(|wrong| version.invalid_as(group, wrong)));
            }
            if name.is_empty() {
                errors.push(version.invalid("version must be specified"));
            } else {
                let wrong = names::dns_1035_label(name);
                errors.extend(wrong.into_iter().map(|wrong| version.invalid_as(name, wrong)));
            }
        }
        _ => errors.push(version.invalid(format!("unexpected GroupVersion string: {}", version.str()))),
    }
    let name = kind.at("kind");
    if name.str().is_empty() {
        errors.push(name.required(""));
    } else {
        let wrong = names::dns_1035_label(&name.str().to_lowercase());
        if !wrong.is_empty() {
            let why = wrong.join(",");
            errors.push(name.invalid(format!("may have mixed case, but should otherwise match: {why}")));
        }
    }
}

fn match_resources(resources: &At<'_>, errors: &mut ErrorList) {
    if let Some(policy) = resources.some("matchPolicy") {
        policy.one_of(errors, &["Equivalent", "Exact"]);
    }
    label_selector(&resources.at("namespaceSelector"), errors);
    label_selector(&resources.at("objectSelector"), errors);
    for field in ["resourceRules", "excludeResourceRules"] {
        for of in resources.items(field) {
            let mut seen = BTreeSet::new();
            for name in of.items("resourceNames") {
                name.check(errors, names::path_segment_name);
                if !seen.insert(name.str()) {
                    errors.push(name.duplicate());
                }
            }
            rule(&of, errors);
        }
    }
}

fn binding(spec: &At<'_>, mutating: bool, errors: &mut ErrorList) {
    let name = spec.at("policyName");
    if name.str().is_empty() {
        errors.push(name.required(""));
    } else {
        name.check(errors, names::dns_subdomain);
    }
    if let Some(param) = spec.some("paramRef") {
        param_ref(&param, errors);
    }
    if let Some(resources) = spec.some("matchResources") {
        match_resources(&resources, errors);
        if mutating {
            only_writes(&resources, errors);
        }
    }
    if mutating {
        return;
    }
    let actions = spec.at("validationActions");
    let mut seen = BTreeSet::new();
    for action in spec.items("validationActions") {
        action.one_of(errors, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.str()) {
            errors.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.push(actions.invalid(
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        ));
    }
    if seen.is_empty() {
        errors.push(actions.required("at least one validation action is required"));
    }
}

fn param_ref(param: &At<'_>, errors: &mut ErrorList) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (param.at("name"), param.some("selector"));
    if !name.str().is_empty() {
        name.check(errors, names::path_segment_name);
        if selector.is_some() {
            errors.push(name.forbidden(EXCLUSIVE));
        }
    }
    if let Some(selector) = &selector {
        label_selector(selector, errors);
        if !name.str().is_empty() {
            errors.push(selector.forbidden(EXCLUSIVE));
        }
    }
    if name.str().is_empty() && selector.is_none() {
        errors.push(param.required("one of name or selector must be specified"));
    }
    match param.some("parameterNotFoundAction") {
        None => errors.push(param.at("parameterNotFoundAction").required("")),
        Some(action) => action.one_of(errors, &["Deny", "Allow"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(kind: &str, spec: Value) -> Vec<String> {
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "p"}, "spec": spec});
        validate(&object).iter().map(ToString::to_string).collect()
    }

    fn constraints() -> Value {
        json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"]}]})
    }

    #[test]
    fn policies_are_held_to_upstreams_rules() {
        let valid = json!({"matchConstraints": constraints(), "variables": [{"name": "v", "expression": "1"}],
            "validations": [{"expression": "variables.v == 1", "messageExpression": "'no'"}]});
        assert_eq!(faults("ValidatingAdmissionPolicy", valid), Vec::<String>::new());
        let spec = json!({"matchConstraints": constraints(), "validations": [{"expression": "variables.x"}]});
        assert_eq!(
            faults("ValidatingAdmissionPolicy", spec),
            [
                "spec.validations[0].expression: Invalid value: \"variables.x\": compilation failed: ERROR: <input>:1:10: undefined field 'x'\n | variables.x\n | .........^"
            ]
        );
        let spec = json!({"matchConstraints": constraints(), "validations": [{"expression": "'a'"}]});
        assert!(faults("ValidatingAdmissionPolicy", spec)[0].ends_with("must evaluate to bool"));
        assert_eq!(
            faults("ValidatingAdmissionPolicyBinding", json!({"validationActions": ["Deny", "Warn"]}))[0],
            "spec.policyName: Required value"
        );
    }

    #[test]
    fn mutations_make_what_their_type_says() {
        let spec = |mutation: Value| json!({"matchConstraints": constraints(), "reinvocationPolicy": "Never", "mutations": [mutation]});
        let apply = |expression: &str| {
            spec(json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}))
        };
        assert_eq!(
            faults("MutatingAdmissionPolicy", apply("Object{spec: Object.spec{hostNetwork: true}}")),
            Vec::<String>::new()
        );
        assert!(faults("MutatingAdmissionPolicy", apply("1"))[0].ends_with("must evaluate to Object"));
        let patch = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'test', nope: 1}]"}});
        assert!(faults("MutatingAdmissionPolicy", spec(patch))[0].contains("undefined field 'nope'"));
    }
}
