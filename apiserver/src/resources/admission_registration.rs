//! Webhooks and admission policies: defaults, and what a webhook must say.

mod expressions;
mod policies;

use std::collections::BTreeSet;

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::{Value, json};

use super::at::At;
use super::fill;
use super::pod_spec::scheduling::label_selector;
use crate::registry::{Context, Strategy};

pub use policies::Policy;

const TIMEOUT_MAX: i64 = 30;
const HTTPS: i64 = 443;

/// ValidatingWebhookConfigurations and MutatingWebhookConfigurations.
pub struct WebhookConfiguration {
    pub mutating: bool,
}

impl Strategy for WebhookConfiguration {
    fn set_defaults(&self, object: &mut Value) {
        for webhook in fill::items(object, "webhooks") {
            fill::nil(webhook, "failurePolicy", "Fail");
            matching(webhook);
            fill::nil(webhook, "timeoutSeconds", 10);
            if self.mutating {
                fill::nil(webhook, "reinvocationPolicy", "Never");
            }
            rules(webhook, "rules");
            if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
                fill::nil(service, "port", HTTPS);
            }
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, self.mutating)
    }
}

fn matching(of: &mut Value) {
    fill::nil(of, "matchPolicy", "Equivalent");
    fill::nil(of, "namespaceSelector", json!({}));
    fill::nil(of, "objectSelector", json!({}));
}

fn rules(of: &mut Value, field: &str) {
    fill::items(of, field).for_each(|rule| fill::nil(rule, "scope", "*"));
}

fn validate(object: &Value, mutating: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut seen = BTreeSet::new();
    for webhook in At::root(object).items("webhooks") {
        let name = webhook.at("name");
        errors.extend(names::fully_qualified_name(name.path(), name.str()));
        self::webhook(&webhook, mutating, &mut errors);
        if !name.str().is_empty() && !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
    }
    errors
}

fn webhook(webhook: &At<'_>, mutating: bool, errors: &mut ErrorList) {
    webhook.items("rules").for_each(|rule| self::rule(&rule, errors));
    let closed = [("failurePolicy", ["Fail", "Ignore"]), ("matchPolicy", ["Equivalent", "Exact"])];
    for (field, supported) in closed {
        if let Some(policy) = webhook.some(field) {
            policy.one_of(errors, &supported);
        }
    }
    let effects = webhook.at("sideEffects");
    match effects.value() {
        None => errors.push(effects.required("must specify one of None, NoneOnDryRun")),
        Some(_) => effects.one_of(errors, &["None", "NoneOnDryRun"]),
    }
    let timeout = webhook.at("timeoutSeconds");
    if timeout.i64().is_some_and(|seconds| !(1..=TIMEOUT_MAX).contains(&seconds)) {
        errors.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
    }
    label_selector(&webhook.at("namespaceSelector"), errors);
    label_selector(&webhook.at("objectSelector"), errors);
    if let Some(policy) = webhook.some("reinvocationPolicy").filter(|_| mutating) {
        policy.one_of(errors, &["IfNeeded", "Never"]);
    }
    client(&webhook.at("clientConfig"), errors);
    review_versions(webhook, errors);
    expressions::match_conditions(webhook, false, errors);
}

fn review_versions(webhook: &At<'_>, errors: &mut ErrorList) {
    let versions = webhook.at("admissionReviewVersions");
    if webhook.list("admissionReviewVersions").is_empty() {
        errors.push(versions.required("must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in webhook.items("admissionReviewVersions") {
        if seen.insert(version.str()) {
            version.check(errors, names::dns_1035_label);
        } else {
            errors.push(version.invalid("duplicate version"));
        }
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        errors.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}

/// Where a webhook is: at a URL or at a Service.
fn client(client: &At<'_>, errors: &mut ErrorList) {
    match (client.some("url"), client.some("service")) {
        (None, None) | (Some(_), Some(_)) => {
            errors.push(client.required("exactly one of url or service is required"));
        }
        (Some(url), None) => self::url(&url, errors),
        (None, Some(service)) => self::service(&service, errors),
    }
}

fn service(service: &At<'_>, errors: &mut ErrorList) {
    // Upstream hands over name and namespace the wrong way round.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if !service.filled(field) {
            errors.push(service.at(told).required(""));
        }
    }
    let port = service.at("port");
    let wrong = names::port_number(port.i64().unwrap_or(HTTPS));
    if !wrong.is_empty() {
        errors.push(port.invalid(format!("port is not valid: {}", wrong.join(", "))));
    }
    if let Some(path) = service.some("path") {
        self::path(&path, errors);
    }
}

fn url(url: &At<'_>, errors: &mut ErrorList) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.str().split_once("://").unwrap_or(("", url.str()));
    if scheme != "https" {
        errors.push(url.invalid_as(scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        errors.push(url.invalid_as("", format!("host must be specified{FORM}")));
    }
    if authority.contains('@') {
        errors.push(url.invalid_as(user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(url.invalid_as(fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(url.invalid_as(query, "query parameters are not permitted in the URL"));
    }
}

fn path(path: &At<'_>, errors: &mut ErrorList) {
    let text = path.str();
    match text {
        "" | "/" => return,
        "//" => {
            errors.push(path.invalid("segment[0] may not be empty"));
            return;
        }
        _ if !text.starts_with('/') => errors.push(path.invalid("must start with a '/'")),
        _ => {}
    }
    let inner: &str = text.char_indices().nth(1).map_or("", |(at, _)| &text[at..]);
    for (i, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            errors.push(path.invalid(format!("segment[{i}] may not be empty")));
            continue;
        }
        let wrong = names::dns_subdomain(step).into_iter();
        errors.extend(wrong.map(|wrong| path.invalid(format!("segment[{i}]: {wrong}"))));
    }
}

fn rule(rule: &At<'_>, errors: &mut ErrorList) {
    star_alone(rule, "operations", errors);
    for operation in rule.items("operations") {
        operation.one_of(errors, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
    }
    star_alone(rule, "apiGroups", errors);
    star_alone(rule, "apiVersions", errors);
    for version in rule.items("apiVersions").filter(|version| version.str().is_empty()) {
        errors.push(version.required(""));
    }
    resources(rule, errors);
    if let Some(scope) = rule.some("scope") {
        scope.one_of(errors, &["*", "Cluster", "Namespaced"]);
    }
}

fn star_alone(rule: &At<'_>, field: &'static str, errors: &mut ErrorList) {
    let (at, count) = (rule.at(field), rule.list(field).len());
    if count == 0 {
        errors.push(at.required(""));
    }
    if count > 1 && rule.texts(field).any(|item| item == "*") {
        errors.push(at.invalid(format!("if '*' is present, must not specify other {}", in_words(field))));
    }
}

fn in_words(field: &str) -> &'static str {
    match field {
        "apiGroups" => "API groups",
        "apiVersions" => "API versions",
        _ => "operations",
    }
}

/// A pattern must not name what one before it covers.
fn resources(rule: &At<'_>, errors: &mut ErrorList) {
    let (at, count) = (rule.at("resources"), rule.list("resources").len());
    if count == 0 {
        errors.push(at.required(""));
    }
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let (mut all, mut star, mut plain) = (false, false, false);
    for resource in rule.items("resources") {
        let text = resource.str();
        if text.is_empty() {
            errors.push(resource.required(""));
            continue;
        }
        all |= text == "*/*";
        star |= text == "*";
        let Some((kind, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if whole.contains(kind) {
            errors.push(resource.invalid(format!("if '{kind}/*' is present, must not specify {text}")));
        }
        if everywhere.contains(sub) {
            errors.push(resource.invalid(format!("if '*/{sub}' is present, must not specify {text}")));
        }
        if sub == "*" {
            whole.insert(kind);
        }
        if kind == "*" {
            everywhere.insert(sub);
        }
    }
    if count > 1 && all {
        errors.push(at.invalid("if '*/*' is present, must not specify other resources"));
    }
    if star && plain {
        errors.push(at.invalid("if '*' is present, must not specify other resources without subresources"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{check, completed};

    #[test]
    fn webhooks_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "w"},
            "webhooks": [{
                "name": "w.a.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "s", "namespace": "n"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            }],
        });
        let configuration = WebhookConfiguration { mutating: false };
        let whole = completed(&configuration, &valid);
        let webhook = &whole["webhooks"][0];
        assert_eq!((&webhook["timeoutSeconds"], &webhook["rules"][0]["scope"]), (&json!(10), &json!("*")));
        check(
            &configuration,
            |object| validate(object, false),
            &valid,
            &[
                (
                    "/webhooks/0/name",
                    json!("w"),
                    "webhooks[0].name: Invalid value: \"w\": should be a domain with at least three segments separated by dots",
                ),
                (
                    "/webhooks/0/sideEffects",
                    json!(null),
                    "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                ),
                (
                    "/webhooks/0/timeoutSeconds",
                    json!(31),
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "http://a"}),
                    "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                ),
                (
                    "/webhooks/0/matchConditions",
                    json!([{"name": "x", "expression": "... [] bad expression"}]),
                    "webhooks[0].matchConditions[0].expression: Invalid value: \"... [] bad expression\": compilation failed: ERROR: <input>:1:2: Syntax error: no viable alternative at input '..'\n | ... [] bad expression\n | .^",
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["*", "pods"]),
                    "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
                ),
            ],
        );
    }
}
