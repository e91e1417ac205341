//! Containers: those that run, those that start the pod, and those that come to debug it.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::Value;

use super::volumes::Known;
use super::{amounts, env, mounts, probes, security};
use crate::resources::at::At;
use crate::resources::fill;

/// What containers of one pod share.
pub struct Pod<'a> {
    pub spec: At<'a>,
    pub volumes: Known<'a>,
    pub claims: BTreeSet<&'a str>,
}

const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";
const EPHEMERAL_MAY_NOT: &str = "cannot be set for an Ephemeral Container";
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
];

pub fn validate(pod: &Pod<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    if pod.spec.list("containers").is_empty() {
        errors.push(pod.spec.at("containers").required(""));
    }
    for container in pod.spec.items("containers") {
        common(&container, pod, errors);
        let name = container.at("name");
        if !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
        probes::of_container(&container, &pod.spec, errors);
        restart_policy(&container, errors);
    }
    host_ports(pod.spec.items("containers"), errors);
    init(pod, errors);
    ephemeral(pod, errors);
}

fn names_of<'a>(spec: &At<'a>, fields: &[&str]) -> BTreeSet<&'a str> {
    fields
        .iter()
        .flat_map(|field| spec.list(field))
        .map(|container| At::root(container).text("name"))
        .collect()
}

fn init(pod: &Pod<'_>, errors: &mut ErrorList) {
    let mut seen = names_of(&pod.spec, &["containers"]);
    for container in pod.spec.items("initContainers") {
        common(&container, pod, errors);
        if !container.has("restartPolicy") {
            rules_need_policy(&container, errors);
        } else {
            restart_policy(&container, errors);
        }
        let name = container.at("name");
        if seen.contains(name.str()) {
            errors.push(name.duplicate());
        } else if !name.str().is_empty() {
            seen.insert(name.str());
        }
        let alone = At::new(container.value(), pod.spec.at("initContainers").path().index(0));
        host_ports(std::iter::once(alone), errors);
        let is_sidecar = container.text("restartPolicy") == "Always";
        if is_sidecar {
            probes::of_container(&container, &pod.spec, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if let Some(set) = container.some(field) {
                errors.push(set.forbidden(ONLY_SIDECARS));
            }
        }
        for policy in container.items("resizePolicy") {
            let restart = policy.at("restartPolicy");
            if restart.str() == "RestartContainer" {
                let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                errors.push(restart.invalid(detail));
            }
        }
    }
}

fn ephemeral(pod: &Pod<'_>, errors: &mut ErrorList) {
    let others = names_of(&pod.spec, &["containers", "initContainers"]);
    let mut seen = others.clone();
    for container in pod.spec.items("ephemeralContainers") {
        common(&container, pod, errors);
        only_in_pods(&container, errors);
        let name = container.at("name");
        if !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
        let target = container.at("targetContainerName");
        if !target.str().is_empty() && !others.contains(target.str()) {
            errors.push(target.not_found());
        }
        for field in NOT_EPHEMERAL {
            if container.get(field).is_some_and(|value| !fill::is_zero(value)) {
                errors.push(container.at(field).forbidden(EPHEMERAL_MAY_NOT));
            }
        }
        if container.has("lifecycle") {
            errors.push(container.at("lifecycle").forbidden(EPHEMERAL_MAY_NOT));
        }
        for mount in container.items("volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if mount.filled(field) {
                    errors.push(mount.at(field).forbidden(EPHEMERAL_MAY_NOT));
                }
            }
        }
    }
}

/// What templates forgive and pods do not.
pub fn only_in_pods(container: &At<'_>, errors: &mut ErrorList) {
    let image = container.at("image");
    if image.str().trim() != image.str() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
}

fn common(container: &At<'_>, pod: &Pod<'_>, errors: &mut ErrorList) {
    container.at("name").require(errors, names::dns_label);
    container.at("image").require_text(errors);
    container.at("terminationMessagePolicy").require_one_of(errors, &["File", "FallbackToLogsOnError"]);
    ports(container, errors);
    env::validate(container, errors);
    mounts::validate(container, &pod.volumes, errors);
    pull_policy(&container.at("imagePullPolicy"), errors);
    amounts::requirements(&container.at("resources"), amounts::container_name, &pod.claims, errors);
    resize_policy(container, pod.spec.text("restartPolicy"), errors);
    if let Some(context) = container.some("securityContext") {
        security::of_container(&context, security::uses_host_users(&pod.spec), errors);
    }
}

pub fn pull_policy(at: &At<'_>, errors: &mut ErrorList) {
    at.require_one_of(errors, &["Always", "IfNotPresent", "Never"]);
}

fn ports(container: &At<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for port in container.items("ports") {
        let name = port.at("name");
        if !name.str().is_empty() {
            let wrong = names::port_name(name.str());
            if !wrong.is_empty() {
                errors.extend(wrong.into_iter().map(|wrong| name.invalid(wrong)));
            } else if !seen.insert(name.str()) {
                errors.push(name.duplicate());
            }
        }
        let number = port.at("containerPort");
        match number.i64().unwrap_or_default() {
            0 => errors.push(number.required("")),
            _ => number.check_int(errors, names::port_number),
        }
        let host = port.at("hostPort");
        if host.i64().unwrap_or_default() != 0 {
            host.check_int(errors, names::port_number);
        }
        port.at("protocol").require_one_of(errors, &["SCTP", "TCP", "UDP"]);
    }
}

fn host_ports<'a>(containers: impl Iterator<Item = At<'a>>, errors: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for container in containers {
        for port in container.items("ports") {
            let host = port.int("hostPort").unwrap_or_default();
            let key = format!("{}/{}/{host}", port.text("protocol"), port.text("hostIP"));
            if host != 0 && taken.contains(&key) {
                errors.push(Error::duplicate(port.at("hostPort").path(), key));
            } else if host != 0 {
                taken.insert(key);
            }
        }
    }
}

fn resize_policy(container: &At<'_>, pod_policy: &str, errors: &mut ErrorList) {
    let list = container.at("resizePolicy");
    let mut seen = BTreeSet::new();
    for policy in container.items("resizePolicy") {
        let resource = policy.text("resourceName");
        if !seen.insert(resource) {
            errors.push(Error::duplicate(policy.path(), resource));
        }
        let of_list = |field: &str| At::new(policy.get(field), list.path().clone());
        of_list("resourceName").require_one_of(errors, &["cpu", "memory"]);
        let restart = of_list("restartPolicy");
        restart.require_one_of(errors, &["NotRequired", "RestartContainer"]);
        if pod_policy == "Never" && restart.str() != "NotRequired" {
            errors.push(restart.invalid("must be 'NotRequired' when pod `restartPolicy` is 'Never'"));
        }
    }
}

fn rules_need_policy(container: &At<'_>, errors: &mut ErrorList) {
    if container.filled("restartPolicyRules") {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(container.at("restartPolicy").required(detail));
    }
}

fn restart_policy(container: &At<'_>, errors: &mut ErrorList) {
    match container.some("restartPolicy") {
        None if !container.filled("restartPolicyRules") => return,
        None => rules_need_policy(container, errors),
        Some(policy) => policy.one_of(errors, &["Always", "Never", "OnFailure"]),
    }
    let rules = container.at("restartPolicyRules");
    let count = rules.value().and_then(Value::as_array).map_or(0, Vec::len);
    if count > 20 {
        errors.push(Error::too_many(rules.path(), count, 20));
    }
    for rule in container.items("restartPolicyRules") {
        rule.at("action").one_of(errors, &["Restart", "RestartAllContainers"]);
        let Some(codes) = rule.some("exitCodes") else {
            errors.push(rule.at("exitCodes").required("must be specified"));
            continue;
        };
        codes.at("operator").one_of(errors, &["In", "NotIn"]);
        let count = codes.list("values").len();
        if count > 255 {
            errors.push(Error::too_many(codes.at("values").path(), count, 255));
        }
    }
}
