//! IPAddresses: which Service has which cluster address.

use knarr_api::field::{ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;

pub struct IpAddress;

impl Strategy for IpAddress {
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let of = |object| At::root(object).at("spec").at("parentRef");
        of(object).immutable(&mut errors, &of(old));
        errors
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let name = object::name(object);
    if !name.is_empty() {
        errors.extend(names::ip(&Path::new("metadata").child("name"), name));
    }
    let spec = At::root(object).at("spec");
    let Some(parent) = spec.some("parentRef") else {
        errors.push(spec.at("parentRef").required(""));
        return errors;
    };
    if parent.filled("group") {
        parent.at("group").check(&mut errors, names::dns_subdomain);
    }
    parent.at("resource").require(&mut errors, names::path_segment_name);
    parent.at("name").require(&mut errors, names::path_segment_name);
    if parent.filled("namespace") {
        parent.at("namespace").check(&mut errors, names::path_segment_name);
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn addresses_are_held_to_upstreams_rules() {
        let valid = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.0.0.1"},
            "spec": {"parentRef": {"resource": "services", "name": "a", "namespace": "b"}}});
        check(
            &IpAddress,
            validate,
            &valid,
            &[
                ("/metadata/name", json!("2001:db8::1"), ""),
                (
                    "/metadata/name",
                    json!("2001:DB8::1"),
                    "metadata.name: Invalid value: \"2001:DB8::1\": must be in canonical form (\"2001:db8::1\")",
                ),
                ("/spec/parentRef", Value::Null, "spec.parentRef: Required value"),
                ("/spec/parentRef/resource", json!(""), "spec.parentRef.resource: Required value"),
                (
                    "/spec/parentRef/name",
                    json!("a/b"),
                    "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
                ),
            ],
        );
    }
}
