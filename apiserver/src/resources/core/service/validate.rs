//! Everything wrong with a Service.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::{Value, json};

use crate::resources::at::At;
use crate::resources::core::endpoints::endpoint_ip;
use crate::resources::pod_spec::probes;

const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const AFFINITY_MAX: i64 = 86_400;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

fn is_headless(spec: &At<'_>) -> bool {
    spec.list("clusterIPs").len() == 1 && spec.texts("clusterIPs").next() == Some("None")
}

fn is_external(spec: &At<'_>) -> bool {
    let kind = spec.text("type");
    matches!(kind, "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && spec.filled("externalIPs"))
}

fn needs_health_check(spec: &At<'_>) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

pub fn service(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.at("spec");
    let old_spec = old.map(|old| At::root(old).at("spec"));
    topology(&root, &mut errors);
    let kind = spec.text("type");
    if spec.list("ports").is_empty() && !is_headless(&spec) && kind != "ExternalName" {
        errors.push(spec.at("ports").required(""));
    }
    by_type(&spec, kind, &mut errors);
    let mut seen = BTreeSet::new();
    let several = spec.list("ports").len() > 1;
    spec.items("ports").for_each(|port| self::port(&port, several, &mut seen, &mut errors));
    if let Some(labels) = spec.get("selector").and_then(Value::as_object) {
        errors.extend(names::validate_labels(labels, spec.at("selector").path()));
    }
    affinity(&spec, &mut errors);
    cluster_ips(&spec, old_spec.as_ref(), &mut errors);
    external_ips(&spec, old_spec.as_ref(), &mut errors);
    spec.at("type").require_one_of(&mut errors, &TYPES);
    unique_ports(&spec, kind, &mut errors);
    source_ranges(&root, &spec, old, &mut errors);
    balancer(&spec, kind, &mut errors);
    traffic(&spec, kind, &mut errors);
    errors
}

fn topology(root: &At<'_>, errors: &mut ErrorList) {
    let annotations = root.at("metadata").at("annotations");
    if let (Some(hints), Some(mode)) = (annotations.get(HINTS), annotations.get(MODE))
        && hints != mode
    {
        let path = annotations.path().key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Error::invalid(&path, mode, detail));
    }
}

fn by_type(spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let path = spec.path().child("clusterIPs").index(0);
            errors.push(Error::invalid(
                &path,
                "None",
                format!("may not be set to 'None' for {kind} services"),
            ));
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies"].into_iter().filter(|field| spec.filled(field)) {
                errors.push(spec.at(field).forbidden("may not be set for ExternalName services"));
            }
            if let Some(policy) = spec.some("ipFamilyPolicy") {
                errors.push(policy.forbidden("may not be set for ExternalName services"));
            }
            let name = spec.at("externalName");
            let target = name.str().strip_suffix('.').unwrap_or(name.str());
            if target.is_empty() {
                errors.push(name.required(""));
            } else {
                let wrong = names::dns_subdomain(target).into_iter();
                errors.extend(wrong.map(|wrong| name.invalid_as(target, wrong)));
            }
        }
        _ => {}
    }
}

fn port<'a>(port: &At<'a>, require_name: bool, seen: &mut BTreeSet<&'a str>, errors: &mut ErrorList) {
    let name = port.at("name");
    if !name.str().is_empty() {
        name.check(errors, names::dns_label);
        if !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
    } else if require_name {
        errors.push(name.required(""));
    }
    let number = port.at("port");
    let value = number.i64().unwrap_or_default();
    errors.extend(names::port_number(value).into_iter().map(|wrong| number.invalid_as(value, wrong)));
    port.at("protocol").require_one_of(errors, &["SCTP", "TCP", "UDP"]);
    probes::port(&port.at("targetPort"), errors);
    if let Some(protocol) = port.some("appProtocol") {
        protocol.check(errors, names::qualified_name);
    }
}

fn affinity(spec: &At<'_>, errors: &mut ErrorList) {
    let (kind, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    kind.require_one_of(errors, &["ClientIP", "None"]);
    match kind.str() {
        "ClientIP" => {
            const WHEN: &str = "when session affinity type is ClientIP";
            let client = config.at("clientIP");
            let timeout = client.at("timeoutSeconds");
            if let Some(missing) = [&config, &client, &timeout].into_iter().find(|at| at.value().is_none()) {
                errors.push(missing.required(WHEN));
            } else if !timeout.i64().is_some_and(|seconds| (1..=AFFINITY_MAX).contains(&seconds)) {
                errors.push(timeout.invalid(format!("must be greater than 0 and less than {AFFINITY_MAX}")));
            }
        }
        "None" if config.value().is_some() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn cluster_ips(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut ErrorList) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    let at = spec.at("clusterIPs");
    let ips: Vec<&str> = spec.texts("clusterIPs").collect();
    match (spec.text("clusterIP"), ips.first()) {
        ("", Some(_)) => errors.push(at.invalid("must be empty when `clusterIP` is not specified")),
        ("", None) => {}
        (_, None) => errors.push(at.required("")),
        (ip, Some(first)) if ip != *first => errors.push(at.invalid("first value must match `clusterIP`")),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in spec.items("ipFamilies") {
        family.one_of(errors, &["IPv4", "IPv6"]);
        if !seen.insert(family.str()) {
            errors.push(family.duplicate());
        }
    }
    if let Some(policy) = spec.some("ipFamilyPolicy") {
        policy.one_of(errors, &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    }
    let existing: Vec<&str> = old.map(|old| old.texts("clusterIPs").collect()).unwrap_or_default();
    let mut invalid = false;
    for (i, ip) in spec.items("clusterIPs").enumerate() {
        if i == 0 && ip.str() == "None" {
            if ips.len() > 1 {
                invalid = true;
                errors.push(at.invalid("'None' must be the first and only value"));
            }
            continue;
        }
        let wrong = names::ip_legacy(ip.path(), ip.str(), &existing);
        invalid |= !wrong.is_empty();
        errors.extend(wrong);
    }
    if ips.len() > 2 {
        errors.push(at.invalid("may only hold up to 2 values"));
    }
    if invalid {
        return;
    }
    let families: BTreeSet<bool> = ips.iter().map(|ip| ip.contains(':')).collect();
    if ips.len() > 1 && families.len() < 2 {
        errors.push(at.invalid("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in spec.items("clusterIPs").zip(spec.texts("ipFamilies")).enumerate() {
        let fits = match family {
            "IPv4" => !ip.str().contains(':'),
            "IPv6" => ip.str().contains(':'),
            _ => true,
        };
        if !fits {
            errors.push(ip.invalid(format!("expected an {family} value as indicated by `ipFamilies[{i}]`")));
        }
    }
}

fn external_ips(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut ErrorList) {
    let existing: Vec<&str> = old.map(|old| old.texts("externalIPs").collect()).unwrap_or_default();
    for ip in spec.items("externalIPs") {
        let wrong = names::ip_legacy(ip.path(), ip.str(), &existing);
        if wrong.is_empty() {
            endpoint_ip(&ip, errors);
        }
        errors.extend(wrong);
    }
}

fn unique_ports(spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let node_port = |port: &At<'_>| port.int("nodePort").filter(|number| *number != 0);
    if kind == "ClusterIP" {
        for port in spec.items("ports").filter(|port| node_port(port).is_some()) {
            errors.push(port.at("nodePort").forbidden("may not be used when `type` is 'ClusterIP'"));
        }
    }
    let mut on_nodes = BTreeSet::new();
    for port in spec.items("ports") {
        if let Some(number) = node_port(&port)
            && !on_nodes.insert((port.text("protocol"), number))
        {
            errors.push(port.at("nodePort").duplicate());
        }
    }
    let mut served = BTreeSet::new();
    for port in spec.items("ports") {
        let (protocol, number) = (port.text("protocol"), port.int("port").unwrap_or_default());
        if !served.insert((protocol, number)) {
            let shown = json!({
                "Name": "", "Protocol": protocol, "AppProtocol": null, "Port": number, "TargetPort": 0, "NodePort": 0,
            });
            errors.push(Error::duplicate(port.path(), shown));
        }
    }
}

fn source_ranges(root: &At<'_>, spec: &At<'_>, old: Option<&Value>, errors: &mut ErrorList) {
    let is_balancer = spec.text("type") == "LoadBalancer";
    let annotation = |root: &At<'_>| root.at("metadata").at("annotations").get(SOURCE_RANGES).cloned();
    if spec.filled("loadBalancerSourceRanges") {
        let at = spec.named("loadBalancerSourceRanges", "LoadBalancerSourceRanges");
        if !is_balancer {
            errors.push(at.forbidden(ONLY_BALANCERS));
        }
        let old = old.map(|old| At::root(old).at("spec"));
        let existing: Vec<&str> =
            old.map(|old| old.texts("loadBalancerSourceRanges").map(str::trim).collect()).unwrap_or_default();
        for (i, range) in spec.texts("loadBalancerSourceRanges").enumerate() {
            errors.extend(names::cidr_legacy(&at.path().index(i), range.trim(), &existing));
        }
    } else if let Some(Value::String(ranges)) = annotation(root) {
        let path = root.at("metadata").at("annotations").path().key(SOURCE_RANGES);
        if !is_balancer {
            errors.push(Error::forbidden(&path, ONLY_BALANCERS));
        }
        let unchanged = old.and_then(|old| annotation(&At::root(old))) == Some(Value::String(ranges.clone()));
        if !unchanged && !ranges.trim().is_empty() {
            for range in ranges.trim().split(',') {
                errors.extend(names::cidr_legacy(&path, range.trim(), &[]));
            }
        }
    }
}

fn balancer(spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let (allocate, class) = (spec.at("allocateLoadBalancerNodePorts"), spec.at("loadBalancerClass"));
    if kind == "LoadBalancer" {
        if allocate.value().is_none() {
            errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
        }
        if class.value().is_some() {
            class.check(errors, names::qualified_name);
        }
        return;
    }
    for at in [allocate, class].iter().filter(|at| at.value().is_some()) {
        errors.push(at.forbidden(ONLY_BALANCERS));
    }
}

fn traffic(spec: &At<'_>, kind: &str, errors: &mut ErrorList) {
    let external = spec.at("externalTrafficPolicy");
    if is_external(spec) {
        external.require_one_of(errors, &["Cluster", "Local"]);
    } else if !external.str().is_empty() {
        errors.push(external.invalid("may only be set for externally-accessible services"));
    }
    let health = spec.at("healthCheckNodePort");
    match (needs_health_check(spec), health.i64().unwrap_or_default()) {
        (true, 0) => errors.push(health.required("")),
        (true, _) => health.check_int(errors, names::port_number),
        (false, 0) => {}
        (false, _) => {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(health.invalid(detail));
        }
    }
    let internal = spec.at("internalTrafficPolicy");
    match internal.value() {
        None if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") => {
            errors.push(internal.required(""))
        }
        None => {}
        Some(_) => internal.one_of(errors, &["Cluster", "Local"]),
    }
    if let Some(distribution) = spec.some("trafficDistribution") {
        distribution.one_of(errors, &["PreferClose", "PreferSameZone", "PreferSameNode"]);
    }
}

pub fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (spec, was) = (At::root(object).at("spec"), At::root(old).at("spec"));
    if spec.text("type") != "ExternalName" && was.text("type") != "ExternalName" {
        let headless = (is_headless(&spec), is_headless(&was));
        if headless != (true, true) {
            fixed(&spec, &was, "clusterIPs", "clusterIP", &mut errors);
        }
        if headless == (false, false) {
            fixed(&spec, &was, "ipFamilies", "ipFamily", &mut errors);
        }
    }
    let class = spec.at("loadBalancerClass");
    let both = spec.text("type") == "LoadBalancer" && was.text("type") == "LoadBalancer";
    if both && class.value() != was.get("loadBalancerClass") {
        let shown = class.value().cloned().unwrap_or_default();
        errors.push(class.invalid_as(shown, "may not change once set"));
    }
    let health = spec.at("healthCheckNodePort");
    let checked = needs_health_check(&spec) && needs_health_check(&was);
    if checked && health.value() != was.get("healthCheckNodePort") {
        errors.push(health.forbidden("field is immutable"));
    }
    errors.extend(service(object, Some(old)));
    errors
}

/// The first stays; a second may come and, with a policy that says so, go.
fn fixed(spec: &At<'_>, old: &At<'_>, field: &'static str, one: &str, errors: &mut ErrorList) {
    const ONCE: &str = "may not change once set";
    let (at, path) = (spec.at(field), spec.path().child(field));
    let (new, old): (Vec<&str>, Vec<&str>) = (spec.texts(field).collect(), old.texts(field).collect());
    let shown = || at.value().cloned().unwrap_or_else(|| json!([]));
    if new.len() == old.len() {
        for (i, _) in old.iter().zip(&new).enumerate().filter(|(_, (old, new))| old != new) {
            let at = if field == "ipFamilies" { 0 } else { i };
            errors.push(Error::invalid(&path.index(at), shown(), ONCE));
        }
        return;
    }
    if new.is_empty() {
        errors.push(Error::invalid(&path.index(0), shown(), format!("primary {one} can not be unset")));
    } else if !old.is_empty() && new[0] != old[0] {
        errors.push(Error::invalid(&path.index(0), shown(), ONCE));
    }
    let policy = spec.at("ipFamilyPolicy");
    if old.len() > new.len() && new.len() == 1 && policy.str() != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(policy.invalid_as(policy.value().cloned().unwrap_or_default(), detail));
    }
}

pub fn status_update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let of = |object| At::root(object).at("status").at("loadBalancer");
    balancer_status(
        &of(object),
        &of(old),
        At::root(object).at("spec").text("type") == "LoadBalancer",
        true,
        &mut errors,
    );
    errors
}

/// Where a balancer is reached, of a Service or (without modes) of an Ingress.
pub fn balancer_status(
    status: &At<'_>,
    old: &At<'_>,
    is_balancer: bool,
    modes: bool,
    errors: &mut ErrorList,
) {
    if !is_balancer {
        if status.filled("ingress") {
            let detail = "may only be used when `spec.type` is 'LoadBalancer'";
            errors.push(status.at("ingress").forbidden(detail));
        }
        return;
    }
    let existing: Vec<&str> =
        old.list("ingress").iter().map(|ingress| At::root(ingress).text("ip")).collect();
    for ingress in status.items("ingress") {
        let (ip, mode, host) = (ingress.at("ip"), ingress.at("ipMode"), ingress.at("hostname"));
        let has_ip = !ip.str().is_empty();
        if has_ip {
            errors.extend(names::ip_legacy(ip.path(), ip.str(), &existing));
        }
        match (mode.value(), has_ip) {
            _ if !modes => {}
            (None, true) => errors.push(mode.required("must be specified when `ip` is set")),
            (Some(_), false) => errors.push(mode.forbidden("may not be specified when `ip` is not set")),
            (Some(_), true) => mode.one_of(errors, &["Proxy", "VIP"]),
            (None, false) => {}
        }
        if !host.str().is_empty() {
            host.check(errors, names::dns_subdomain);
            if names::parse_ip_sloppy(host.str()).is_some() {
                errors.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
}

/// What the author should know although the Service is valid.
pub fn warnings(object: &Value) -> Vec<String> {
    let root = At::root(object);
    let spec = root.at("spec");
    let mut warnings = Vec::new();
    let mut warn = |when: bool, text: &str| {
        if when {
            warnings.push(text.to_owned());
        }
    };
    let (headless, by_name) = (is_headless(&spec), spec.text("type") == "ExternalName");
    let external = spec.filled("externalIPs");
    let hinted = root.at("metadata").at("annotations").has(HINTS);
    warn(hinted, &format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    warn(headless && spec.filled("loadBalancerIP"), "spec.loadBalancerIP is ignored for headless services");
    warn(headless && external, "spec.externalIPs is ignored for headless services");
    let sticky = spec.text("sessionAffinity") != "None";
    warn(headless && sticky, "spec.SessionAffinity is ignored for headless services");
    warn(
        external && !headless && !by_name,
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    );
    warn(external && by_name, "spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    let named = spec.filled("externalName");
    warn(named && !by_name, "spec.externalName is ignored when spec.type is not \"ExternalName\"");
    let close = spec.text("trafficDistribution") == "PreferClose";
    warn(close, "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::core::service::Service;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn services_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"},
            "spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]},
        });
        check(
            &Service,
            |object| service(object, None),
            &valid,
            &[
                ("/spec/ports", json!([]), "spec.ports: Required value"),
                (
                    "/spec/ports/0/port",
                    json!(0),
                    "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]",
                ),
                (
                    "/spec/ports",
                    json!([{"port": 1, "name": "a"}, {"port": 2}]),
                    "spec.ports[1].name: Required value",
                ),
                (
                    "/spec/ports/0/nodePort",
                    json!(30000),
                    "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                ),
                (
                    "/spec/type",
                    json!("X"),
                    "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ),
                (
                    "/spec/sessionAffinity",
                    json!("X"),
                    "spec.sessionAffinity: Unsupported value: \"X\": supported values: \"ClientIP\", \"None\"",
                ),
                (
                    "/spec/clusterIP",
                    json!("10.0.0.2"),
                    "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: first value must match `clusterIP`",
                ),
                (
                    "/spec/externalIPs",
                    json!(["127.0.0.1"]),
                    "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                ),
                (
                    "/spec/loadBalancerClass",
                    json!("a/b"),
                    "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
                ),
            ],
        );
        check_updates(
            &Service,
            update,
            &valid,
            &[
                (
                    "/spec/clusterIPs",
                    json!(["10.0.0.2"]),
                    "[spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set",
                ),
                ("/spec/selector", json!({"a": "b"}), ""),
            ],
        );
    }
}
