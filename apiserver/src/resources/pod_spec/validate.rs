//! Everything wrong with a PodSpec.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use super::containers::{self, Pod};
use super::os::every_container;
use super::{amounts, network, os, pod_resources, scheduling, security, spread, volumes, windows};
use crate::resources::at::At;

/// Whose spec it is.
pub enum Owner<'a> {
    Pod(&'a Value),
    Template,
}

impl<'a> Owner<'a> {
    pub const fn is_pod(&self) -> bool {
        matches!(self, Self::Pod(_))
    }

    /// Empty for templates, which make pods of many names.
    pub fn pod_name(&self) -> &'a str {
        match self {
            Self::Pod(pod) => crate::object::name(pod),
            Self::Template => "",
        }
    }

    /// Whether the pod is a shadow of one that a node runs by itself.
    pub fn is_mirror(&self) -> bool {
        match self {
            Self::Pod(pod) => is_mirror(pod),
            Self::Template => false,
        }
    }
}

pub fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(MIRROR).is_some())
}

pub const MIRROR: &str = "kubernetes.io/config.mirror";
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

pub fn validate(spec: &At<'_>, owner: &Owner<'_>, errors: &mut ErrorList) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.push(spec.at("terminationGracePeriodSeconds").required(""));
    }
    let volumes = volumes::validate(spec, owner, errors);
    resource_claims(spec, owner, errors);
    let claims = spec.list("resourceClaims").iter().map(|claim| At::root(claim).text("name"));
    let claims = claims.filter(|name| !name.is_empty()).collect();
    let pod = Pod { spec: spec.clone(), volumes, claims };
    containers::validate(&pod, errors);
    pod_resources::validate(spec, &pod.claims, errors);
    network::host_ports(spec, owner, errors);
    spec.at("restartPolicy").require_one_of(errors, &["Always", "OnFailure", "Never"]);
    spec.at("dnsPolicy").require_one_of(errors, &DNS_POLICIES);
    node_labels(spec, errors);
    security::of_pod(spec, errors);
    scheduling::validate_affinity(spec, errors);
    network::dns_config(spec, errors);
    for gate in spec.items("readinessGates") {
        gate.at("conditionType").check(errors, names::qualified_name);
    }
    scheduling::gates(spec, errors);
    spread::validate(spec, errors);
    windows::host_process(spec, errors);
    network::host_users(spec, errors);
    network::hostname_override(spec, errors);
    simple_fields(spec, errors);
    scheduling::tolerations(spec.items("tolerations"), errors);
    network::host_aliases(spec, errors);
    if let Some(policy) = spec.some("preemptionPolicy") {
        policy.require_one_of(errors, &["PreemptLowerPriority", "Never"]);
    }
    overhead(spec, errors);
    os::validate(spec, errors);
    if let Some(group) = spec.some("schedulingGroup") {
        match group.some("podGroupName") {
            Some(name) => name.check(errors, names::dns_subdomain),
            None => {
                let name = group.at("podGroupName");
                errors.push(name.invalid_as(Value::Null, "must specify one of: `podGroupName`"));
            }
        }
    }
    file_keys(spec, errors);
}

fn node_labels(spec: &At<'_>, errors: &mut ErrorList) {
    if let Some(labels) = spec.get("nodeSelector").and_then(Value::as_object) {
        errors.extend(names::validate_labels(labels, spec.at("nodeSelector").path()));
    }
}

fn simple_fields(spec: &At<'_>, errors: &mut ErrorList) {
    type Rule = fn(&str) -> Vec<String>;
    let rules: [(&'static str, Rule); 5] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
    ];
    for (field, rule) in rules.into_iter().filter(|(field, _)| spec.filled(field)) {
        spec.at(field).check(errors, rule);
    }
    if let Some(class) = spec.some("runtimeClassName") {
        class.check(errors, names::dns_subdomain);
    }
    spec.at("activeDeadlineSeconds")
        .check_int(errors, |seconds| names::in_range(seconds, 1, i32::MAX.into()));
}

fn overhead(spec: &At<'_>, errors: &mut ErrorList) {
    if let Some(overhead) = spec.get("overhead") {
        let limits = serde_json::json!({"limits": overhead});
        let at = At::new(Some(&limits), spec.path().child("overhead"));
        amounts::requirements(&at, amounts::container_name, &Default::default(), errors);
    }
}

fn resource_claims(spec: &At<'_>, owner: &Owner<'_>, errors: &mut ErrorList) {
    let mut seen = std::collections::BTreeSet::new();
    for claim in spec.items("resourceClaims") {
        if owner.is_mirror() {
            errors.push(Error::forbidden(&Path::new(""), "static pods do not support resource claims"));
            continue;
        }
        let name = claim.at("name");
        if name.str().is_empty() {
            errors.push(name.required(""));
        } else if seen.contains(name.str()) {
            errors.push(name.duplicate());
        } else {
            name.check(errors, names::dns_label);
            seen.insert(name.str());
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|field| claim.has(field)).count() {
            1 => {}
            0 => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(claim.invalid(detail));
            }
            _ => {
                let detail =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(claim.invalid(detail));
            }
        }
        for source in sources.into_iter().filter_map(|field| claim.some(field)) {
            source.check(errors, names::dns_subdomain);
        }
    }
}

/// Files that variables are read from lie in volumes that live as long as the pod.
fn file_keys(spec: &At<'_>, errors: &mut ErrorList) {
    for variable in every_container(spec).flat_map(|container| container.items("env")) {
        let Some(file) = variable.at("valueFrom").some("fileKeyRef") else { continue };
        let name = file.at("volumeName");
        let volume =
            spec.list("volumes").iter().map(At::root).rfind(|volume| volume.text("name") == name.str());
        match volume {
            None => errors.push(name.not_found()),
            Some(volume) if !volume.has("emptyDir") => {
                errors.push(name.invalid("referenced volume must be of type emptyDir"));
            }
            Some(_) => {}
        }
    }
}
