//! Whether a node is one the pod wants, by its labels, its ports and its taints.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use knarr_api::selector::{Operator, Requirement};

use super::admission::{Node, Rejection};
use crate::pod::spec;

fn failed(predicate: &str, why: &str) -> Result<(), Rejection> {
    Err(Rejection { reason: predicate.to_owned(), message: format!("Predicate {predicate} failed: {why}") })
}

/// `nodeSelector`, and what node affinity requires.
pub fn check(pod: &Pod, node: Node<'_>) -> Result<(), Rejection> {
    let spec = spec::spec(pod);
    let selected =
        spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let wanted = required.is_none_or(|selector| {
        selector.node_selector_terms.iter().any(|term| matches(term, node.name, node.labels))
    });
    if selected && wanted {
        return Ok(());
    }
    failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|wanted| meets(wanted, labels))
        && fields.iter().all(|wanted| is_named(wanted, name))
}

/// The only field there is: a name may be longer than a label.
fn is_named(wanted: &NodeSelectorRequirement, name: &str) -> bool {
    let listed = wanted.values.iter().flatten().any(|value| value == name);
    match wanted.operator.as_str() {
        _ if wanted.key != "metadata.name" => false,
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// What does not parse is not met: the API server lets no such thing in.
fn meets(wanted: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let operator = match wanted.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = wanted.values.clone().unwrap_or_default();
    Requirement::new(&wanted.key, operator, values).is_ok_and(|requirement| requirement.matches(labels))
}

/// Ports of the node that another pod has.
pub fn check_ports<'a>(pod: &Pod, others: impl Iterator<Item = &'a Pod>) -> Result<(), Rejection> {
    let wanted = ports(pod);
    if wanted.is_empty() {
        return Ok(());
    }
    let taken: HashSet<_> = others.flat_map(ports).collect();
    let clash = |(protocol, port, ip): &Port| {
        taken.iter().any(|(p, n, other)| p == protocol && n == port && (ip == other || any(ip) || any(other)))
    };
    if wanted.iter().any(clash) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    Ok(())
}

type Port = (String, u16, String);

fn any(ip: &str) -> bool {
    matches!(ip, "0.0.0.0" | "::")
}

fn ports(pod: &Pod) -> Vec<Port> {
    let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_restartable_init(c));
    let all = spec::containers(pod).iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    all.filter_map(|port| {
        let number = u16::try_from(port.host_port?).ok().filter(|number| *number > 0)?;
        let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
        Some((port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number, ip))
    })
    .collect()
}

/// Taints that end pods end this one before it begins; static pods stand above them.
pub fn check_taints(pod: &Pod, taints: &[Taint]) -> Result<(), Rejection> {
    if spec::is_static(pod) {
        return Ok(());
    }
    let tolerations = spec::spec(pod).tolerations.as_deref().unwrap_or_default();
    let untolerated = taints
        .iter()
        .filter(|taint| taint.effect == "NoExecute")
        .any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)));
    if untolerated {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, effect, value) = (text(&toleration.key), text(&toleration.effect), text(&toleration.value));
    let effects = effect.is_empty() || effect == taint.effect;
    let keys = key.is_empty() || key == taint.key;
    let exists = toleration.operator.as_deref() == Some("Exists");
    effects && keys && (exists || (!key.is_empty() && value == text(&taint.value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut pod = json!({"spec": {"containers": []}});
        for (key, value) in spec.as_object().expect("fields") {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn required_affinity_is_one_of_its_terms() {
        let labels =
            BTreeMap::from([("disk".to_owned(), "ssd".to_owned()), ("cores".to_owned(), "8".to_owned())]);
        let allocatable = BTreeMap::new();
        let node = Node {
            name: "n1",
            allocatable: &allocatable,
            labels: &labels,
            taints: &[],
            allowed_unsafe_sysctls: &[],
            shortages: &[],
        };
        let try_with = |terms: serde_json::Value| {
            let required = json!({"nodeSelectorTerms": terms});
            let affinity =
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
            check(&pod(json!({"affinity": affinity})), node).is_ok()
        };
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(try_with(json!([expression("disk", "In", &["hdd"]), expression("cores", "Gt", &["4"])])));
        assert!(!try_with(json!([expression("disk", "NotIn", &["ssd"])])));
        assert!(!try_with(json!([{}])));
        let name = |name: &str| json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]);
        assert!(try_with(name("n1")) && !try_with(name("n2")));
        let refused = check(&pod(json!({"nodeSelector": {"disk": "hdd"}})), node).expect_err("another disk");
        assert_eq!(refused.reason, "NodeAffinity");
    }

    #[test]
    fn a_port_is_free_on_another_address_only() {
        let on = |ip: &str| {
            let port = json!({"containerPort": 80, "hostPort": 8080, "hostIP": ip});
            pod(json!({"containers": [{"name": "c", "ports": [port]}]}))
        };
        assert!(check_ports(&on("127.0.0.1"), [on("127.0.0.2")].iter()).is_ok());
        assert!(check_ports(&on("127.0.0.1"), [on("")].iter()).is_err());
    }

    #[test]
    fn only_no_execute_taints_matter_to_a_node() {
        let taint = |effect: &str| Taint { key: "k".into(), effect: effect.into(), ..Taint::default() };
        let plain = pod(json!({}));
        assert!(check_taints(&plain, &[taint("NoSchedule")]).is_ok());
        assert!(check_taints(&plain, &[taint("NoExecute")]).is_err());
        let tolerant = pod(json!({"tolerations": [{"key": "k", "operator": "Exists"}]}));
        assert!(check_taints(&tolerant, &[taint("NoExecute")]).is_ok());
    }
}
