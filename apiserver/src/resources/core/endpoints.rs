//! Endpoints, and addresses that traffic may go to.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::Value;

use crate::registry::{Context, Strategy};
use crate::resources::at::{At, same};
use crate::resources::fill;

pub struct Endpoints;

impl Strategy for Endpoints {
    fn set_defaults(&self, object: &mut Value) {
        for subset in fill::items(object, "subsets") {
            for port in fill::items(subset, "ports") {
                fill::zero(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        // What was stored before a rule came stays valid.
        if same(object.get("subsets"), old.get("subsets")) { ErrorList::new() } else { validate(object) }
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    for subset in At::root(object).items("subsets") {
        if !subset.filled("addresses") && !subset.filled("notReadyAddresses") {
            errors.push(subset.required("must specify `addresses` or `notReadyAddresses`"));
        }
        for address in subset.items("addresses").chain(subset.items("notReadyAddresses")) {
            self::address(&address, &mut errors);
        }
        let several = subset.list("ports").len() > 1;
        subset.items("ports").for_each(|port| self::port(&port, several, &mut errors));
    }
    errors
}

fn address(address: &At<'_>, errors: &mut ErrorList) {
    let ip = address.at("ip");
    errors.extend(names::ip_legacy(ip.path(), ip.str(), &[]));
    if address.filled("hostname") {
        address.at("hostname").check(errors, names::dns_label);
    }
    if let Some(node) = address.some("nodeName") {
        node.check(errors, names::dns_subdomain);
    }
    endpoint_ip(&ip, errors);
}

/// An address that is nobody's own.
pub fn endpoint_ip(at: &At<'_>, errors: &mut ErrorList) {
    let Some(ip) = names::parse_ip_sloppy(at.str()) else {
        errors.push(at.invalid("must be a valid IP address"));
        return;
    };
    let (link_local, multicast) = match ip {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.push(at.invalid(format!("may not be unspecified ({})", at.str())));
    }
    if ip.is_loopback() {
        errors.push(at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    if link_local {
        errors.push(at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
    if multicast {
        errors.push(at.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
    }
}

fn port(port: &At<'_>, require_name: bool, errors: &mut ErrorList) {
    let name = port.at("name");
    if require_name || !name.str().is_empty() {
        name.require(errors, names::dns_label);
    }
    let number = port.at("port");
    let value = number.i64().unwrap_or_default();
    errors.extend(names::port_number(value).into_iter().map(|wrong| number.invalid_as(value, wrong)));
    port.at("protocol").require_one_of(errors, &["SCTP", "TCP", "UDP"]);
    if let Some(protocol) = port.some("appProtocol") {
        protocol.check(errors, names::qualified_name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::check;

    #[test]
    fn endpoints_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e", "namespace": "n"},
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}],
        });
        check(
            &Endpoints,
            validate,
            &valid,
            &[
                (
                    "/subsets/0/addresses",
                    json!([]),
                    "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                ),
                (
                    "/subsets/0/addresses/0/ip",
                    json!("127.0.0.1"),
                    "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ),
                (
                    "/subsets/0/ports/0/port",
                    json!(0),
                    "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ),
                (
                    "/subsets/0/ports",
                    json!([{"port": 1, "name": "a"}, {"port": 2}]),
                    "subsets[0].ports[1].name: Required value",
                ),
            ],
        );
    }
}
