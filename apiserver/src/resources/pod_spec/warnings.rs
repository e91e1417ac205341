//! What the author of a pod or template should know although it is valid.

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::names;
use serde_json::Value;

use super::os::every_container;
use crate::resources::at::At;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// What is wrong with a node label that has a successor.
fn old_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => r#"use "node-role.kubernetes.io/control-plane" instead"#,
        _ => return None,
    })
}

/// `of` is a pod or a template.
pub fn of(of: &At<'_>) -> Vec<String> {
    let spec = of.at("spec");
    let mut warnings = Vec::new();
    node_labels(&spec, &mut warnings);
    spread(&spec, &mut warnings);
    for volume in spec.items("volumes") {
        for (_, name, why) in OLD_VOLUMES.iter().filter(|(field, ..)| volume.has(field)) {
            warnings.push(format!("{}: {why}", volume.path().child(*name)));
        }
    }
    duplicates(&spec, &mut warnings);
    every_container(&spec).for_each(|container| self::container(&container, &mut warnings));
    ports(&spec, &mut warnings);
    let grace = spec.at("terminationGracePeriodSeconds");
    if grace.i64().is_some_and(|seconds| seconds < 0) {
        let path = grace.path();
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    pod_affinity(&spec, &mut warnings);
    warnings
}

/// The name of what pods and their hosts are named after; `what` says how.
pub fn name(name: &str, what: &str) -> Option<String> {
    let wrong = names::dns_label(name);
    (!wrong.is_empty()).then(|| {
        let wrong = wrong.join(" ");
        format!("metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: [{wrong}]")
    })
}

fn node_labels(spec: &At<'_>, warnings: &mut Vec<String>) {
    for (key, at) in spec.entries("nodeSelector") {
        warnings.extend(old_label(key).map(|why| format!("{}: {why}", at.path())));
    }
    let affinity = spec.at("affinity").at("nodeAffinity");
    let required = affinity.at(REQUIRED).items("nodeSelectorTerms");
    let preferred = affinity.items(PREFERRED).map(|term| term.at("preference"));
    for expression in required.chain(preferred).flat_map(|term| term.items("matchExpressions")) {
        let key = expression.at("key");
        warnings.extend(old_label(key.str()).map(|why| format!("{}: {} is {why}", key.path(), key.str())));
    }
}

fn spread(spec: &At<'_>, warnings: &mut Vec<String>) {
    for constraint in spec.items("topologySpreadConstraints") {
        let key = constraint.at("topologyKey");
        warnings.extend(old_label(key.str()).map(|why| format!("{}: {} is {why}", key.path(), key.str())));
        if !constraint.has("labelSelector") {
            warnings.push(format!("{}: {NULL_SELECTOR}", constraint.at("labelSelector").path()));
        }
    }
}

fn duplicates(spec: &At<'_>, warnings: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for item in spec.items(list).map(|item| item.at(field)) {
            if !seen.insert(item.str()) {
                warnings.push(format!("{}: duplicate {field} {:?}", item.path(), item.str()));
            }
        }
    }
    for name in spec.items("imagePullSecrets").map(|secret| secret.at("name")) {
        if name.str().is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", name.path()));
        }
    }
}

fn container(container: &At<'_>, warnings: &mut Vec<String>) {
    let resources = container.at("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for (_, at) in ["limits", "requests"]
            .into_iter()
            .flat_map(|kind| resources.entries(kind))
            .filter(|(name, _)| *name == resource)
        {
            if at.quantity().is_some_and(|amount| amount.milli_value() % 1000 != 0) {
                let (path, text) = (at.path(), at.str());
                warnings
                    .push(format!("{path}: fractional byte value {text:?} is invalid, must be an integer"));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for variable in container.items("env") {
        let (name, value) = (variable.text("name"), variable.text("value"));
        let reference = format!("$({name})");
        let hides = variable.has("valueFrom") || value == reference || !value.contains(&reference);
        if !seen.insert(name) && hides {
            let path = variable.path();
            warnings.push(format!(
                "{path}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(spec: &At<'_>, warnings: &mut Vec<String>) {
    let mut known: BTreeMap<String, Vec<At<'_>>> = BTreeMap::new();
    for port in every_container(spec).flat_map(|container| container.items("ports")) {
        let key = format!("{}/{}", port.int("containerPort").unwrap_or_default(), port.text("protocol"));
        let others = known.entry(key).or_default();
        for other in others.iter() {
            let on_host = |port: &At<'_>| port.int("hostPort").unwrap_or_default();
            let (ip, other_ip) = (port.text("hostIP"), other.text("hostIP"));
            let what = if ip == other_ip && on_host(&port) == on_host(other) {
                "duplicate port definition"
            } else if on_host(&port) == 0 || on_host(other) == 0 {
                "overlapping port definition"
            } else if on_host(&port) == on_host(other) && ip.is_empty() != other_ip.is_empty() {
                "dangerously ambiguous port definition"
            } else {
                continue;
            };
            warnings.push(format!("{}: {what} with {}", port.path(), other.path()));
        }
        others.push(port);
    }
    let mut named: BTreeMap<&str, At<'_>> = BTreeMap::new();
    for port in every_container(spec).flat_map(|container| container.items("ports")) {
        let name = port.text("name");
        match named.get(name) {
            _ if name.is_empty() => {}
            Some(other) => {
                let (path, other) = (port.path(), other.path());
                warnings.push(format!(
                    "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                ));
            }
            None => {
                named.insert(name, port);
            }
        }
    }
}

fn pod_affinity(spec: &At<'_>, warnings: &mut Vec<String>) {
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(affinity);
        let preferred = affinity.items(PREFERRED).map(|term| term.at("podAffinityTerm"));
        for term in affinity.items(REQUIRED).chain(preferred).filter(|term| !term.has("labelSelector")) {
            warnings.push(format!("{}: {NULL_SELECTOR}", term.at("labelSelector").path()));
        }
    }
}

/// The warnings of a workload: about its name when it is new, and about its template when that is new.
pub fn of_workload(object: &Value, old: Option<&Value>, what: &str) -> Vec<String> {
    let template = |of: &Value| of.pointer("/spec/template").cloned();
    let mut warnings = Vec::new();
    if old.is_none() {
        warnings.extend(name(crate::object::name(object), what));
    }
    if old.is_none_or(|old| template(old) != template(object)) {
        warnings.extend(of(&At::root(object).at("spec").at("template")));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_author_is_told_what_upstream_tells() {
        let pod = json!({"spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "containers": [{
                "name": "c",
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
                "resources": {"requests": {"memory": "100m"}},
            }],
        }});
        assert_eq!(
            of(&At::root(&pod)),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            ]
        );
    }
}
