//! The checks of the baseline level: no known ways from a pod to its node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Pod, Violation, containers, join_quoted, plural, setters, violation};
use crate::admission::pod::{items, text};

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The sysctls that are safe, in the order they became so, and how many were by which version.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn list(set: &BTreeSet<String>) -> Vec<&str> {
    set.iter().map(String::as_str).collect()
}

/// The profile types that neither the pod nor a container may set.
struct BadTypes {
    pod: bool,
    containers: Vec<String>,
    values: BTreeSet<String>,
}

fn bad_types(pod: &Pod<'_>, field: &str, good: fn(&str) -> bool) -> BadTypes {
    let bad = |security: &Value| {
        security[field]
            .as_object()
            .map(|_| text(&security[field]["type"]))
            .filter(|kind| !good(kind))
            .map(str::to_owned)
    };
    let own = bad(pod.security());
    let names = pod.named(|container| bad(&container["securityContext"]).is_some());
    let values =
        pod.containers().filter_map(|container| bad(&container["securityContext"])).chain(own.clone());
    BadTypes { pod: own.is_some(), containers: names, values: values.collect() }
}

fn is_profile(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub fn app_armor_profile(pod: &Pod<'_>) -> Option<Violation> {
    let BadTypes { pod: own, containers, values } = bad_types(pod, "appArmorProfile", is_profile);
    let annotations: Vec<String> = pod.0["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATION))
        .map(|(key, value)| (key, text(value)))
        .filter(|(_, value)| {
            !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/"))
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who: Vec<String> = setters(own, &containers).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let mut all: Vec<&str> = list(&values);
    all.extend(annotations.iter().map(String::as_str));
    violation(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len()),
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), join_quoted(&all)),
    )
}

pub fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let added = |container: &Value| -> BTreeSet<String> {
        let added = items(&container["securityContext"]["capabilities"]["add"]).map(text);
        added.filter(|added| !CAPABILITIES.contains(added)).map(str::to_owned).collect()
    };
    let bad = pod.named(|container| !added(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = pod.containers().flat_map(added).collect();
    violation(
        "non-default capabilities",
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&bad),
            join_quoted(&list(&all))
        ),
    )
}

pub fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec()[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> = items(&pod.spec()["volumes"])
        .filter(|volume| !volume["hostPath"].is_null())
        .map(|volume| text(&volume["name"]))
        .collect();
    if bad.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", bad.len()), join_quoted(&bad)))
}

pub fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<String> {
        let ports = items(&container["ports"]).filter_map(|port| port["hostPort"].as_i64());
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let bad = pod.named(|container| !ports(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = pod.containers().flat_map(ports).collect();
    violation(
        "hostPort",
        format!(
            "{} {} {} {}",
            containers(&bad),
            plural("uses", "use", bad.len()),
            plural("hostPort", "hostPorts", all.len()),
            list(&all).join(", ")
        ),
    )
}

pub fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    let hosts = |container: &Value| -> Vec<String> {
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &container["lifecycle"]["postStart"],
            &container["lifecycle"]["preStop"],
        ];
        let hosts =
            handlers.into_iter().flat_map(|h| [text(&h["httpGet"]["host"]), text(&h["tcpSocket"]["host"])]);
        hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect()
    };
    let mut bad = pod.named(|container| !hosts(container).is_empty());
    if bad.is_empty() {
        return None;
    }
    bad.sort();
    let all: BTreeSet<String> = pod.containers().flat_map(hosts).collect();
    violation(
        "probe or lifecycle host",
        format!(
            "{} {} {} {}",
            containers(&bad),
            plural("uses", "use", bad.len()),
            plural("probe or lifecycle host", "probe or lifecycle hosts", all.len()),
            join_quoted(&list(&all))
        ),
    )
}

pub fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.named(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

pub fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let other = |container: &Value| {
        container["securityContext"]["procMount"]
            .as_str()
            .filter(|kind| *kind != "Default")
            .map(str::to_owned)
    };
    let bad = pod.named(|container| other(container).is_some());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<String> = pod.containers().filter_map(other).collect();
    violation(
        "procMount",
        format!(
            "{} must not set securityContext.procMount to {}",
            containers(&bad),
            join_quoted(&list(&all))
        ),
    )
}

pub fn proc_mount_unless_user_namespace(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { proc_mount(pod) }
}

pub fn selinux_options(pod: &Pod<'_>) -> Option<Violation> {
    selinux(pod, &["", "container_t", "container_init_t", "container_kvm_t"])
}

pub fn selinux_options_1_31(pod: &Pod<'_>) -> Option<Violation> {
    selinux(pod, &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

fn selinux(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let set = |options: &Value, field: &str| !text(&options[field]).is_empty();
    let bad = |security: &Value| {
        let options = &security["seLinuxOptions"];
        !allowed.contains(&text(&options["type"])) || set(options, "user") || set(options, "role")
    };
    let names = pod.named(|container| bad(&container["securityContext"]));
    let who = setters(bad(pod.security()), &names)?;
    let all = || {
        pod.containers().map(|c| &c["securityContext"]).chain([pod.security()]).map(|s| &s["seLinuxOptions"])
    };
    let types: BTreeSet<String> =
        all().map(|o| text(&o["type"])).filter(|kind| !allowed.contains(kind)).map(str::to_owned).collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), join_quoted(&list(&types))));
    }
    for field in ["user", "role"] {
        if all().any(|options| set(options, field)) {
            what.push(format!("{field} may not be set"));
        }
    }
    violation(
        "seLinuxOptions",
        format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; ")),
    )
}

pub fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let annotations = &pod.0["metadata"]["annotations"];
    let bad = |key: String| {
        let value = annotations.get(&key)?.as_str()?;
        let good = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
        (!good).then(|| format!("{key}={value:?}"))
    };
    let of_containers = pod.containers().map(|c| format!("{SECCOMP_ANNOTATION}{}", text(&c["name"])));
    let all: BTreeSet<String> =
        std::iter::once(SECCOMP_POD_ANNOTATION.to_owned()).chain(of_containers).filter_map(bad).collect();
    if all.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!("forbidden {} {}", plural("annotation", "annotations", all.len()), list(&all).join(", ")),
    )
}

pub fn seccomp_profile(pod: &Pod<'_>) -> Option<Violation> {
    let BadTypes { pod: own, containers, values } = bad_types(pod, "seccompProfile", is_profile);
    let who = setters(own, &containers)?;
    violation(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {}", join_quoted(&list(&values))),
    )
}

pub fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_but(pod, &SYSCTLS[..5])
}

pub fn sysctls_1_27(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_but(pod, &SYSCTLS[..6])
}

pub fn sysctls_1_29(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_but(pod, &SYSCTLS[..10])
}

pub fn sysctls_1_32(pod: &Pod<'_>) -> Option<Violation> {
    sysctls_but(pod, &SYSCTLS)
}

fn sysctls_but(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let names = items(&pod.security()["sysctls"]).map(|sysctl| text(&sysctl["name"]));
    let bad: Vec<&str> = names.filter(|name| !allowed.contains(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let set = |security: &Value| security["windowsOptions"]["hostProcess"] == true;
    let names = pod.named(|container| set(&container["securityContext"]));
    let who = setters(set(pod.security()), &names)?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
