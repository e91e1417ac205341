//! NetworkPolicies.

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::scheduling::label_selector;

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        for (direction, _) in DIRECTIONS {
            for rule in fill::items(spec, direction) {
                fill::items(rule, "ports").for_each(|port| fill::nil(port, "protocol", "TCP"));
            }
        }
        let egress = spec.get("egress").is_some_and(|egress| !fill::is_zero(egress));
        fill::zero(
            spec,
            "policyTypes",
            if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) },
        );
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object, &[])
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let spec = At::root(old).at("spec");
        let mut known = Vec::new();
        for (direction, peers) in DIRECTIONS {
            for block in
                spec.items(direction).flat_map(|rule| rule.items(peers)).map(|peer| peer.at("ipBlock"))
            {
                known.push(block.text("cidr"));
                known.extend(block.texts("except"));
            }
        }
        validate(object, &known)
    }
}

/// `known` are networks that were stored before.
fn validate(object: &Value, known: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    label_selector(&spec.at("podSelector"), &mut errors);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.items(direction) {
            rule.items("ports").for_each(|port| self::port(&port, &mut errors));
            rule.items(peers).for_each(|peer| self::peer(&peer, known, &mut errors));
        }
    }
    if spec.list("policyTypes").len() > 2 {
        errors.push(spec.at("policyTypes").invalid("may not specify more than two policyTypes"));
        return errors;
    }
    spec.items("policyTypes").for_each(|kind| kind.one_of(&mut errors, &["Ingress", "Egress"]));
    errors
}

fn port(port: &At<'_>, errors: &mut ErrorList) {
    if let Some(protocol) = port.some("protocol") {
        protocol.one_of(errors, &["TCP", "UDP", "SCTP"]);
    }
    let (first, last) = (port.at("port"), port.some("endPort"));
    match (first.value(), last) {
        (Some(Value::String(_)), last) => {
            if let Some(last) = last {
                errors.push(last.invalid("may not be specified when `port` is non-numeric"));
            }
            first.check(errors, names::port_name);
        }
        (Some(_), last) => {
            first.check_int(errors, names::port_number);
            if let Some(last) = last {
                if last.i64() < first.i64() {
                    let shown = first.i64().unwrap_or_default();
                    errors.push(last.invalid_as(shown, "must be greater than or equal to `port`"));
                }
                last.check_int(errors, names::port_number);
            }
        }
        (None, Some(last)) => errors.push(last.invalid("may not be specified when `port` is not specified")),
        (None, None) => {}
    }
}

fn peer(peer: &At<'_>, known: &[&str], errors: &mut ErrorList) {
    label_selector(&peer.at("podSelector"), errors);
    label_selector(&peer.at("namespaceSelector"), errors);
    let selects = peer.has("podSelector") || peer.has("namespaceSelector");
    match (peer.some("ipBlock"), selects) {
        (None, false) => errors.push(peer.required("must specify a peer")),
        (None, true) => {}
        (Some(block), selects) => {
            ip_block(&block, known, errors);
            if selects {
                errors.push(peer.forbidden("may not specify both ipBlock and another peer"));
            }
        }
    }
}

fn ip_block(block: &At<'_>, known: &[&str], errors: &mut ErrorList) {
    let cidr = block.at("cidr");
    if cidr.str().is_empty() {
        errors.push(cidr.required(""));
        return;
    }
    errors.extend(names::cidr_legacy(cidr.path(), cidr.str(), known));
    let Some((_, outer)) = names::parse_cidr_sloppy(cidr.str()) else { return };
    for except in block.items("except") {
        errors.extend(names::cidr_legacy(except.path(), except.str(), known));
        let Some((_, inner)) = names::parse_cidr_sloppy(except.str()) else { continue };
        if !outer.contains(inner.network) || outer.prefix >= inner.prefix {
            errors.push(Error::invalid(except.path(), except.str(), "must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{check, completed};

    #[test]
    fn network_policies_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "n"},
            "spec": {"podSelector": {}, "egress": [{"ports": [{"port": 80}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
        });
        let whole = completed(&NetworkPolicy, &valid);
        assert_eq!(whole["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        check(
            &NetworkPolicy,
            |object| validate(object, &[]),
            &valid,
            &[
                (
                    "/spec/egress/0/to/0",
                    json!({}),
                    "spec.egress[0].to[0]: Required value: must specify a peer",
                ),
                (
                    "/spec/egress/0/to/0/ipBlock/except",
                    json!(["11.0.0.0/8"]),
                    "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
                ),
                (
                    "/spec/egress/0/ports/0",
                    json!({"port": 80, "endPort": 70}),
                    "spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                ),
                (
                    "/spec/policyTypes",
                    json!(["X"]),
                    "spec.policyTypes[0]: Unsupported value: \"X\": supported values: \"Ingress\", \"Egress\"",
                ),
            ],
        );
    }
}
