//! Ingresses.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::{Value, json};

use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::core::service::balancer_status;

const CLASS: &str = "kubernetes.io/ingress.class";
const NOT_IN_PATHS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const NOT_AT_END: [&str; 2] = ["/..", "/."];

pub struct Ingress;

impl Strategy for Ingress {
    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({"loadBalancer": {}});
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        create(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let of = |object| At::root(object).at("status").at("loadBalancer");
        balancer_status(&of(object), &of(old), true, false, &mut errors);
        errors
    }

    fn warnings(&self, _: &Context<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
        let annotated = At::root(object).at("metadata").at("annotations").has(CLASS);
        if annotated && old.is_none() {
            vec![format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead")]
        } else {
            Vec::new()
        }
    }
}

fn create(object: &Value) -> ErrorList {
    let mut errors = validate(object);
    let root = At::root(object);
    let annotation = root.at("metadata").at("annotations").get(CLASS);
    if let (Some(annotation), Some(class)) = (annotation, root.at("spec").get("ingressClassName"))
        && annotation != class
    {
        let path = Path::new("annotations").child(CLASS);
        errors.push(Error::invalid(
            &path,
            annotation,
            "must match `ingressClassName` when both are specified",
        ));
    }
    errors
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let default = spec.some("defaultBackend");
    if !spec.filled("rules") && default.is_none() {
        let shown = spec.get("rules").cloned().unwrap_or_default();
        errors.push(spec.invalid_as(shown, "either `defaultBackend` or `rules` must be specified"));
    }
    if let Some(default) = default {
        backend(&default, &mut errors);
    }
    for rule in spec.items("rules") {
        let name = rule.at("host");
        if !name.str().is_empty() {
            if names::parse_ip_sloppy(name.str()).is_some() {
                errors.push(name.invalid("must be a DNS name, not an IP address"));
            }
            host(&name, &mut errors);
        }
        if let Some(http) = rule.some("http") {
            if http.list("paths").is_empty() {
                errors.push(http.at("paths").required(""));
            }
            http.items("paths").for_each(|path| self::path(&path, &mut errors));
        }
    }
    for tls in spec.items("tls") {
        tls.items("hosts").for_each(|name| host(&name, &mut errors));
        let secret = tls.at("secretName");
        if !secret.str().is_empty() {
            secret.check(&mut errors, names::dns_subdomain);
        }
    }
    if let Some(class) = spec.some("ingressClassName") {
        class.check(&mut errors, names::dns_subdomain);
    }
    errors
}

fn host(name: &At<'_>, errors: &mut ErrorList) {
    let rule = if name.str().contains('*') { names::wildcard_dns_subdomain } else { names::dns_subdomain };
    name.check(errors, rule);
}

fn path(path: &At<'_>, errors: &mut ErrorList) {
    let (kind, text) = (path.at("pathType"), path.at("path"));
    if kind.value().is_none() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    let is_absolute = text.str().starts_with('/');
    match kind.str() {
        "Exact" | "Prefix" => {
            if !is_absolute {
                errors.push(text.invalid("must be an absolute path"));
            }
            for part in NOT_IN_PATHS.into_iter().filter(|part| text.str().contains(part)) {
                errors.push(text.invalid(format!("must not contain '{part}'")));
            }
            for end in NOT_AT_END.into_iter().filter(|end| text.str().ends_with(end)) {
                errors.push(text.invalid(format!("cannot end with '{end}'")));
            }
        }
        "ImplementationSpecific" => {
            if !text.str().is_empty() && !is_absolute {
                errors.push(text.invalid("must be an absolute path"));
            }
        }
        _ => errors.push(kind.unsupported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&path.at("backend"), errors);
}

fn backend(backend: &At<'_>, errors: &mut ErrorList) {
    match (backend.some("resource"), backend.some("service")) {
        (Some(_), Some(_)) => {
            errors.push(backend.invalid_as("", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => reference(&resource, errors),
        (None, Some(service)) => {
            service.at("name").require(errors, names::dns_label);
            let port = service.at("port");
            let (name, number) = (port.at("name"), port.at("number"));
            match (!name.str().is_empty(), number.i64().unwrap_or_default() != 0) {
                (true, true) => {
                    errors.push(backend.invalid_as("", "cannot set both port name & port number"))
                }
                (true, false) => name.check(errors, names::port_name),
                (false, true) => number.check_int(errors, names::port_number),
                (false, false) => errors.push(backend.required("port name or number is required")),
            }
        }
        (None, None) => errors.push(backend.invalid_as("", "resource or service backend is required")),
    }
}

/// An object of any kind, by group, kind and name.
pub fn reference(at: &At<'_>, errors: &mut ErrorList) {
    if let Some(group) = at.some("apiGroup") {
        group.check(errors, names::dns_subdomain);
    }
    at.at("kind").require(errors, names::path_segment_name);
    at.at("name").require(errors, names::path_segment_name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn ingresses_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "namespace": "n"},
            "spec": {"rules": [{"host": "a.example", "http": {"paths": [{
                "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}},
            }]}}]},
        });
        check(
            &Ingress,
            create,
            &valid,
            &[
                (
                    "/spec/rules",
                    json!([]),
                    "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
                ),
                (
                    "/spec/rules/0/host",
                    json!("1.2.3.4"),
                    "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
                ),
                (
                    "/spec/rules/0/http/paths/0/path",
                    json!("a"),
                    "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
                ),
                (
                    "/spec/rules/0/http/paths/0/pathType",
                    json!("X"),
                    "spec.rules[0].http.paths[0].pathType: Unsupported value: \"X\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
                ),
                (
                    "/spec/rules/0/http/paths/0/backend",
                    json!({}),
                    "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
                ),
            ],
        );
    }
}
