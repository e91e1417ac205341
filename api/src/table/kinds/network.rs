//! Ingress, policies and address ranges.

use super::super::Cell;
use super::View;
use super::service::ingress_addresses;

pub(super) fn ingress(object: View<'_>) -> Vec<Cell<'_>> {
    let ports = if object.count("spec.tls") > 0 { "80, 443" } else { "80" };
    vec![
        object.name(),
        object.str_or("spec.ingressClassName", "<none>").into(),
        hosts(object).into(),
        ingress_addresses(object).into(),
        ports.into(),
        object.age(),
    ]
}

/// At most three hosts. How many more there are is counted in rules, like upstream does.
fn hosts(ingress: View<'_>) -> String {
    const MOST: usize = 3;
    let rules = ingress.items("spec.rules");
    let count = rules.len();
    let mut hosts: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == MOST;
        match rule.str("host") {
            host if !more && !host.is_empty() => hosts.push(host),
            _ => {}
        }
    }
    match hosts.join(",") {
        shown if shown.is_empty() => "*".to_owned(),
        shown if more => format!("{shown} + {} more...", count - MOST),
        shown => shown,
    }
}

pub(super) fn ingress_class(object: View<'_>) -> Vec<Cell<'_>> {
    let annotations = object.fields("metadata.annotations");
    let default = annotations.and_then(|all| all.get("ingressclass.kubernetes.io/is-default-class"));
    let name = if default.and_then(|value| value.as_str()) == Some("true") {
        format!("{} (default)", object.str("metadata.name")).into()
    } else {
        object.name()
    };
    let parameters = object.at("spec.parameters");
    let shown = match (parameters.is_null(), parameters.str("apiGroup")) {
        (true, _) => "<none>".to_owned(),
        (false, "") => format!("{}/{}", parameters.str("kind"), parameters.str("name")),
        (false, group) => format!("{}.{group}/{}", parameters.str("kind"), parameters.str("name")),
    };
    vec![name, object.str("spec.controller").into(), shown.into(), object.age()]
}

pub(super) fn network_policy(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.selector("spec.podSelector").into(), object.age()]
}

pub(super) fn service_cidr(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.joined("spec.cidrs").into(), object.age()]
}

/// Upstream adds an age that has no column; it is left out here, so that cells and columns agree.
pub(super) fn ip_address(object: View<'_>) -> Vec<Cell<'_>> {
    let parent = object.at("spec.parentRef");
    let shown = if parent.is_null() {
        "<none>".to_owned()
    } else {
        let mut shown = parent.str("resource").to_lowercase();
        for (separator, field) in [(".", "group"), ("/", "namespace")] {
            if !parent.str(field).is_empty() {
                shown.push_str(separator);
                shown.push_str(parent.str(field));
            }
        }
        format!("{shown}/{}", parent.str("name"))
    };
    vec![object.name(), shown.into()]
}
