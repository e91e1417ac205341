//! EndpointSlices.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::Value;

use super::at::{At, same};
use super::core::endpoints::endpoint_ip;
use super::fill;
use crate::registry::{Context, Strategy};

const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const ENDPOINTS_MAX: usize = 1000;
const HINTS_MAX: usize = 8;

pub struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn set_defaults(&self, object: &mut Value) {
        for port in fill::items(object, "ports") {
            fill::nil(port, "name", "");
            fill::nil(port, "protocol", "TCP");
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = validate(object, Some(old));
        At::root(object).at("addressType").immutable(&mut errors, &At::root(old).at("addressType"));
        errors
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let kind = root.at("addressType");
    kind.require_one_of(&mut errors, &["FQDN", "IPv4", "IPv6"]);
    ports(&root, &mut errors);
    // What was stored before a rule came stays valid.
    let unchanged = old.is_some_and(|old| same(object.get("endpoints"), old.get("endpoints")));
    if !unchanged {
        endpoints(&root, kind.str(), &mut errors);
    }
    errors
}

fn ports(root: &At<'_>, errors: &mut ErrorList) {
    let count = root.list("ports").len();
    if count > PORTS_MAX {
        errors.push(Error::too_many(root.at("ports").path(), count, PORTS_MAX));
        return;
    }
    let mut seen = BTreeSet::new();
    for port in root.items("ports") {
        let name = port.at("name");
        if !name.str().is_empty() {
            name.check(errors, names::dns_label);
        }
        if !seen.insert(name.str()) {
            errors.push(Error::duplicate(name.path(), name.str()));
        }
        let protocol = port.at("protocol");
        match protocol.value() {
            None => errors.push(protocol.required("")),
            Some(_) => protocol.one_of(errors, &["SCTP", "TCP", "UDP"]),
        }
        if let Some(protocol) = port.some("appProtocol") {
            protocol.check(errors, names::qualified_name);
        }
    }
}

fn endpoints(root: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let count = root.list("endpoints").len();
    if count > ENDPOINTS_MAX {
        errors.push(Error::too_many(root.at("endpoints").path(), count, ENDPOINTS_MAX));
        return;
    }
    for endpoint in root.items("endpoints") {
        let list = endpoint.at("addresses");
        match endpoint.list("addresses").len() {
            0 => errors.push(list.required("must contain at least 1 address")),
            count if count > ADDRESSES_MAX => errors.push(Error::too_many(list.path(), count, ADDRESSES_MAX)),
            _ => {}
        }
        endpoint.items("addresses").for_each(|address| self::address(&address, &list, kind, errors));
        if let Some(node) = endpoint.some("nodeName") {
            node.check(errors, names::dns_subdomain);
        }
        if let Some(host) = endpoint.some("hostname") {
            host.check(errors, names::dns_label);
        }
        let hints = endpoint.at("hints");
        self::hints(&hints, "forZones", names::label_value, errors);
        self::hints(&hints, "forNodes", names::dns_subdomain, errors);
    }
}

fn address(address: &At<'_>, list: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let text = address.str();
    let wrong = match kind {
        "IPv4" => names::ip_legacy(address.path(), text, &[]),
        "IPv6" => names::ip(address.path(), text),
        "FQDN" => {
            errors.extend(names::fully_qualified_domain_name(address.path(), text));
            return;
        }
        _ => return,
    };
    if !wrong.is_empty() {
        errors.extend(wrong);
        return;
    }
    if text.contains(':') != (kind == "IPv6") {
        errors.push(list.invalid_as(text, format!("must be an {kind} address")));
    }
    endpoint_ip(address, errors);
}

fn hints(hints: &At<'_>, field: &'static str, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    let count = hints.list(field).len();
    if count > HINTS_MAX {
        errors.push(Error::too_many(hints.at(field).path(), count, HINTS_MAX));
        return;
    }
    let mut seen = BTreeSet::new();
    for hint in hints.items(field) {
        let name = hint.at("name");
        if !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
        name.check(errors, rule);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn slices_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s", "namespace": "n"},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
        });
        check(
            &EndpointSlice,
            |object| validate(object, None),
            &valid,
            &[
                (
                    "/addressType",
                    json!("X"),
                    "addressType: Unsupported value: \"X\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
                ),
                (
                    "/endpoints/0/addresses",
                    json!([]),
                    "endpoints[0].addresses: Required value: must contain at least 1 address",
                ),
                (
                    "/endpoints/0/addresses",
                    json!(["127.0.0.1"]),
                    "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ),
                ("/ports", json!([{"port": 1}, {"port": 2}]), "ports[1].name: Duplicate value: \"\""),
            ],
        );
    }
}
