//! Everything wrong with an update of a pod's status.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::Value;

use super::validate;
use crate::resources::at::At;

const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const KINDS: [(&str, &str); 2] =
    [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")];

pub fn update(pod: &Value, old: &Value) -> ErrorList {
    let mut errors = validate::annotations_update(pod, old);
    let (status, was) = (At::root(pod).at("status"), At::root(old).at("status"));
    let spec = At::root(old).at("spec");
    conditions(&status, &mut errors);
    nominated(&status, &was, &spec, &mut errors);
    let generation = status.at("observedGeneration");
    if generation.i64().is_some_and(|generation| generation < 0) {
        errors.push(generation.invalid("must be a non-negative integer"));
    }
    status.at("qosClass").immutable(&mut errors, &was.at("qosClass"));
    if !all_could_restart(&spec) {
        for (statuses, containers) in KINDS {
            transitions(&status, &was, statuses, Some(containers), &spec, &mut errors);
        }
    }
    transitions(&status, &was, "ephemeralContainerStatuses", None, &spec, &mut errors);
    claims(&status, &spec, &mut errors);
    ips(&status, &was, "podIPs", &mut errors);
    if status.filled("hostIPs") {
        let first = status.items("hostIPs").next().map(|first| first.at("ip"));
        if let Some(first) = first.filter(|first| first.str() != status.text("hostIP")) {
            errors.push(first.invalid("must be equal to `hostIP`"));
        }
        ips(&status, &was, "hostIPs", &mut errors);
    }
    for (statuses, _) in KINDS {
        users(&status, statuses, &mut errors);
    }
    users(&status, "ephemeralContainerStatuses", &mut errors);
    errors
}

fn conditions(status: &At<'_>, errors: &mut ErrorList) {
    for condition in status.items("conditions") {
        let generation = condition.at("observedGeneration");
        if generation.i64().is_some_and(|generation| generation < 0) {
            errors.push(generation.invalid("must be a non-negative integer"));
        }
        let kind = condition.named("type", "Type");
        if !SYSTEM_CONDITIONS.contains(&kind.str()) {
            kind.check(errors, names::qualified_name);
        }
    }
}

fn nominated(status: &At<'_>, was: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    let node = status.at("nominatedNodeName");
    if node.str().is_empty() || node.str() == was.text("nominatedNodeName") {
        return;
    }
    node.check(errors, names::dns_subdomain);
    if spec.filled("nodeName") {
        errors.push(node.forbidden("may not be set on pods that are already bound to a node"));
    }
}

/// A rule that restarts all containers makes any of them run again.
fn all_could_restart(spec: &At<'_>) -> bool {
    let containers = spec.items("initContainers").chain(spec.items("containers"));
    let mut rules = containers.flat_map(|container| container.items("restartPolicyRules"));
    rules.any(|rule| rule.text("action") == "RestartAllContainers")
}

/// A container that has ended for good does not run again.
fn transitions(
    status: &At<'_>,
    was: &At<'_>,
    field: &'static str,
    containers: Option<&'static str>,
    spec: &At<'_>,
    errors: &mut ErrorList,
) {
    let ended = |status: &At<'_>| {
        status.at("state").some("terminated").map(|end| end.int("exitCode").unwrap_or_default())
    };
    for (i, old) in was.items(field).enumerate() {
        let Some(code) = ended(&old) else { continue };
        let name = old.text("name");
        let new = status.items(field).find(|new| new.text("name") == name);
        if new.is_none_or(|new| ended(&new).is_some()) {
            continue;
        }
        let container = containers.and_then(|kind| spec.items(kind).find(|known| known.text("name") == name));
        if !container.is_some_and(|container| restarts(&container, spec.text("restartPolicy"), code)) {
            let path = status.at(field).path().index(i).child("state");
            errors.push(Error::forbidden(&path, "may not be transitioned to non-terminated state"));
        }
    }
}

fn restarts(container: &At<'_>, pod_policy: &str, code: i64) -> bool {
    for rule in container.items("restartPolicyRules") {
        let codes = rule.at("exitCodes");
        let listed = codes.list("values").iter().any(|value| value.as_i64() == Some(code));
        let applies = match codes.text("operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if applies {
            return true;
        }
    }
    let policy = container.get("restartPolicy").and_then(Value::as_str).unwrap_or(pod_policy);
    policy == "Always" || (policy == "OnFailure" && code != 0)
}

fn claims(status: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    let known: Vec<&str> =
        spec.list("resourceClaims").iter().map(|claim| At::root(claim).text("name")).collect();
    let mut seen = BTreeSet::new();
    for claim in status.items("resourceClaimStatuses") {
        let name = claim.at("name");
        if !known.contains(&name.str()) {
            errors.push(name.invalid("must match the name of an entry in `spec.resourceClaims`"));
        }
        if !seen.insert(name.str()) {
            errors.push(name.duplicate());
        }
        if let Some(claim) = claim.some("resourceClaimName") {
            claim.check(errors, names::dns_subdomain);
        }
    }
}

/// At most one address of each family.
fn ips(status: &At<'_>, was: &At<'_>, field: &'static str, errors: &mut ErrorList) {
    let of = |status: &At<'_>| -> Vec<String> {
        status.list(field).iter().map(|ip| At::root(ip).text("ip").to_owned()).collect()
    };
    let (new, old) = (of(status), of(was));
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    for (ip, at) in new.iter().zip(status.items(field)) {
        errors.extend(names::ip_legacy(at.path(), ip, &old));
    }
    let families: Vec<Option<bool>> =
        new.iter().map(|ip| names::parse_ip_sloppy(ip).map(|ip| ip.is_ipv4())).collect();
    let dual = families.contains(&Some(true)) && families.contains(&Some(false));
    if new.len() > 1 && (!dual || new.len() > 2) {
        errors.push(status.at(field).invalid("may specify no more than one IP for each IP family"));
    }
}

fn users(status: &At<'_>, field: &'static str, errors: &mut ErrorList) {
    for container in status.items(field) {
        let user = container.at("user").at("linux");
        user.at("uid").check_int(errors, names::user_id);
        user.at("gid").check_int(errors, names::group_id);
        user.items("supplementalGroups").for_each(|group| group.check_int(errors, names::group_id));
    }
}
