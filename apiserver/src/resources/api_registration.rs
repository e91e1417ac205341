//! APIServices.

use knarr_api::field::{Error, ErrorList, Path, quote};
use knarr_api::names;
use serde_json::{Value, json};

use super::at::At;
use super::fill;
use crate::object;
use crate::registry::{Context, Strategy};

const MAX_GROUP_PRIORITY: i64 = 20_000;
const MAX_VERSION_PRIORITY: i64 = 1_000;
const HTTPS: i64 = 443;

pub struct ApiService;

impl Strategy for ApiService {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(service) = object.pointer_mut("/spec/service") {
            fill::nil(service, "port", HTTPS);
        }
    }

    /// What this server serves itself is available from the start.
    fn prepare_for_create(&self, cx: &Context<'_>, object: &mut Value) {
        object["status"] = match is_local(object) {
            true => json!({"conditions": [local(&object::timestamp(cx.now))]}),
            false => json!({}),
        };
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    /// Labels and the like are not the status writer's business.
    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            object::copy_meta(object, old, field);
        }
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for condition in At::root(object).at("status").items("conditions") {
            condition.at("status").one_of(&mut errors, &["False", "True", "Unknown"]);
        }
        errors
    }
}

/// The condition of an APIService that this server serves itself.
pub fn local(now: &str) -> Value {
    json!({"type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local",
        "message": "Local APIServices are always available"})
}

fn is_local(object: &Value) -> bool {
    At::root(object).at("spec").get("service").is_none()
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let (group, version) = (spec.at("group"), spec.at("version"));
    let name = object::name(object);
    let wanted = format!("{}.{}", version.str(), group.str());
    if name != wanted {
        let path = Path::new("metadata").child("name");
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", quote(&wanted));
        errors.push(Error::invalid(&path, name, detail));
    }
    if group.str().is_empty() && version.str() != "v1" {
        errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    if !group.str().is_empty() {
        group.check(&mut errors, names::dns_subdomain);
    }
    version.check(&mut errors, names::dns_1035_label);
    let priorities =
        [("groupPriorityMinimum", MAX_GROUP_PRIORITY), ("versionPriority", MAX_VERSION_PRIORITY)];
    for (field, max) in priorities {
        let value = spec.int(field).unwrap_or_default();
        if value <= 0 || value > max {
            let detail = format!("must be positive and less than {max}");
            errors.push(spec.at(field).invalid_as(value, detail));
        }
    }
    match spec.some("service") {
        Some(service) => remote(&spec, &service, &mut errors),
        None => own(&spec, &mut errors),
    }
    errors
}

fn own(spec: &At<'_>, errors: &mut ErrorList) {
    use base64::Engine;
    let bundle = spec.at("caBundle");
    if !bundle.str().is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(bundle.str()).map_or(0, |b| b.len());
        errors.push(bundle.invalid_as(format!("{bytes} bytes"), "local APIServices may not have a caBundle"));
    }
    if spec.flag("insecureSkipTLSVerify") {
        let field = spec.at("insecureSkipTLSVerify");
        errors.push(field.invalid("local APIServices may not have insecureSkipTLSVerify"));
    }
}

fn remote(spec: &At<'_>, service: &At<'_>, errors: &mut ErrorList) {
    service.at("namespace").require_text(errors);
    service.at("name").require_text(errors);
    let port = service.at("port");
    let wrong = names::port_number(port.i64().unwrap_or_default());
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(port.invalid_as(port.i64().unwrap_or_default(), detail));
    }
    if spec.flag("insecureSkipTLSVerify") && spec.filled("caBundle") {
        let field = spec.at("insecureSkipTLSVerify");
        errors.push(field.invalid("may not be true if caBundle is present"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn api_services_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.a.example"},
            "spec": {"group": "a.example", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
                "service": {"namespace": "n", "name": "s"}},
        });
        check(
            &ApiService,
            validate,
            &valid,
            &[
                (
                    "/metadata/name",
                    json!("v1.b.example"),
                    "metadata.name: Invalid value: \"v1.b.example\": must be `spec.version+\".\"+spec.group`: \"v1.a.example\"",
                ),
                (
                    "/spec/groupPriorityMinimum",
                    json!(20_001),
                    "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
                ),
                (
                    "/spec/versionPriority",
                    json!(0),
                    "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
                ),
                ("/spec/service/name", json!(""), "spec.service.name: Required value"),
                (
                    "/spec/service/port",
                    json!(70_000),
                    "spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
                ),
                ("/spec/service", Value::Null, ""),
            ],
        );
    }
}
