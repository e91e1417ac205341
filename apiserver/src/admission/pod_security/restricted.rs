//! The checks of the restricted level: current hardening practice.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline;
use super::checks::{Pod, Violation, containers, join_quoted, plural, setters, violation};
use crate::admission::pod::{items, text};

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

pub fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.named(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    violation(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)),
    )
}

pub fn privilege_escalation_on_linux(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { privilege_escalation(pod) }
}

pub fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let lists = |container: &Value, which: &str| -> Vec<String> {
        items(&container["securityContext"]["capabilities"][which]).map(|c| text(c).to_owned()).collect()
    };
    let added = |container: &Value| {
        lists(container, "add").into_iter().filter(|c| c != "NET_BIND_SERVICE").collect::<BTreeSet<_>>()
    };
    let keeping = pod.named(|container| !lists(container, "drop").iter().any(|c| c == "ALL"));
    let adding = pod.named(|container| !added(container).is_empty());
    let mut what = Vec::new();
    if !keeping.is_empty() {
        what.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let all: Vec<String> =
            pod.containers().flat_map(added).collect::<BTreeSet<_>>().into_iter().collect();
        what.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            join_quoted(&all)
        ));
    }
    if what.is_empty() { None } else { violation("unrestricted capabilities", what.join("; ")) }
}

pub fn capabilities_on_linux(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

pub fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let source = |volume: &Value| {
        let mut fields = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null());
        fields.next().map_or("unknown".to_owned(), |(key, _)| key.clone())
    };
    let bad: Vec<&Value> =
        items(&pod.spec()["volumes"]).filter(|volume| !VOLUMES.contains(&source(volume).as_str())).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|volume| text(&volume["name"])).collect();
    let kinds: Vec<String> =
        bad.iter().map(|volume| source(volume)).collect::<BTreeSet<_>>().into_iter().collect();
    violation(
        "restricted volume types",
        format!(
            "{} {} {} {} {}",
            plural("volume", "volumes", names.len()),
            join_quoted(&names),
            plural("uses", "use", names.len()),
            plural("restricted volume type", "restricted volume types", kinds.len()),
            join_quoted(&kinds)
        ),
    )
}

pub fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let own = pod.security()["runAsNonRoot"].as_bool();
    let set = |container: &Value| container["securityContext"]["runAsNonRoot"].as_bool();
    let refusing = pod.named(|container| set(container) == Some(false));
    if let Some(who) = setters(own == Some(false), &refusing) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = pod.named(|container| set(container).is_none());
    if own == Some(true) || silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

pub fn run_as_non_root_unless_user_namespace(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { run_as_non_root(pod) }
}

pub fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let root = |security: &Value| security["runAsUser"] == 0;
    let names = pod.named(|container| root(&container["securityContext"]));
    let who = setters(root(pod.security()), &names)?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub fn run_as_user_unless_user_namespace(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { run_as_user(pod) }
}

pub fn seccomp_profile(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(bad) = baseline::seccomp_profile(pod) {
        return Some(bad);
    }
    if pod.security()["seccompProfile"].is_object() {
        return None;
    }
    let silent = pod.named(|container| !container["securityContext"]["seccompProfile"].is_object());
    if silent.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    )
}

pub fn seccomp_profile_on_linux(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp_profile(pod) }
}
