//! The catalogue of checks: since which version each holds, and which it replaces.

use std::fmt;

use serde_json::Value;

use super::policy::{Level, LevelVersion, Version};
use super::{baseline, restricted};
use crate::admission::pod::{CONTAINER_LISTS, items, text};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => f.write_str(&self.reason),
            detail => write!(f, "{} ({detail})", self.reason),
        }
    }
}

pub type Check = fn(&Pod<'_>) -> Option<Violation>;

/// One check over a range of minor versions.
struct Entry {
    level: Level,
    since: u32,
    until: u32,
    check: Check,
    /// Since this version a check of the restricted level says the same and more.
    replaced_since: u32,
}

const ALWAYS: u32 = 0;
const FOREVER: u32 = u32::MAX;

const fn entry(level: Level, since: u32, until: u32, check: Check, replaced_since: u32) -> Entry {
    Entry { level, since, until, check, replaced_since }
}

/// In the order messages have: baseline first, each level by the check's name.
const CHECKS: &[Entry] = {
    use Level::{Baseline as B, Restricted as R};
    &[
        entry(B, ALWAYS, FOREVER, baseline::app_armor_profile, FOREVER),
        entry(B, ALWAYS, FOREVER, baseline::capabilities, 22),
        entry(B, ALWAYS, FOREVER, baseline::host_namespaces, FOREVER),
        entry(B, ALWAYS, FOREVER, baseline::host_path_volumes, ALWAYS),
        entry(B, ALWAYS, FOREVER, baseline::host_ports, FOREVER),
        entry(B, 34, FOREVER, baseline::host_probes, FOREVER),
        entry(B, ALWAYS, FOREVER, baseline::privileged, FOREVER),
        entry(B, ALWAYS, 35, baseline::proc_mount, FOREVER),
        entry(B, 35, FOREVER, baseline::proc_mount_unless_user_namespace, 35),
        entry(B, ALWAYS, 31, baseline::selinux_options, FOREVER),
        entry(B, 31, FOREVER, baseline::selinux_options_1_31, FOREVER),
        entry(B, ALWAYS, 19, baseline::seccomp_annotations, FOREVER),
        entry(B, 19, FOREVER, baseline::seccomp_profile, 19),
        entry(B, ALWAYS, 27, baseline::sysctls, FOREVER),
        entry(B, 27, 29, baseline::sysctls_1_27, FOREVER),
        entry(B, 29, 32, baseline::sysctls_1_29, FOREVER),
        entry(B, 32, FOREVER, baseline::sysctls_1_32, FOREVER),
        entry(B, ALWAYS, FOREVER, baseline::windows_host_process, FOREVER),
        entry(R, 8, 25, restricted::privilege_escalation, FOREVER),
        entry(R, 25, FOREVER, restricted::privilege_escalation_on_linux, FOREVER),
        entry(R, 22, 25, restricted::capabilities, FOREVER),
        entry(R, 25, FOREVER, restricted::capabilities_on_linux, FOREVER),
        entry(R, 35, FOREVER, baseline::proc_mount, FOREVER),
        entry(R, ALWAYS, FOREVER, restricted::volumes, FOREVER),
        entry(R, ALWAYS, 35, restricted::run_as_non_root, FOREVER),
        entry(R, 35, FOREVER, restricted::run_as_non_root_unless_user_namespace, FOREVER),
        entry(R, 23, 35, restricted::run_as_user, FOREVER),
        entry(R, 35, FOREVER, restricted::run_as_user_unless_user_namespace, FOREVER),
        entry(R, 19, 25, restricted::seccomp_profile, FOREVER),
        entry(R, 25, FOREVER, restricted::seccomp_profile_on_linux, FOREVER),
    ]
};

/// What a pod, or a template of pods, breaks.
pub fn violations(at: LevelVersion, pod: &Value) -> Vec<Violation> {
    let minor = match at.version {
        Version::Minor(minor) => minor,
        Version::Latest => FOREVER - 1,
    };
    let holds = |entry: &&Entry| {
        let replaced =
            at.level == Level::Restricted && entry.level == Level::Baseline && minor >= entry.replaced_since;
        entry.level <= at.level && (entry.since..entry.until).contains(&minor) && !replaced
    };
    let pod = Pod(pod);
    CHECKS.iter().filter(holds).filter_map(|entry| (entry.check)(&pod)).collect()
}

/// A pod as checks see it.
pub struct Pod<'a>(pub &'a Value);

impl<'a> Pod<'a> {
    pub fn spec(&self) -> &'a Value {
        &self.0["spec"]
    }

    /// The pod's own security context.
    pub fn security(&self) -> &'a Value {
        &self.spec()["securityContext"]
    }

    pub fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec();
        CONTAINER_LISTS.iter().flat_map(move |(list, _)| items(&spec[*list]))
    }

    /// The names of the containers that a predicate holds for.
    pub fn named(&self, bad: impl Fn(&Value) -> bool) -> Vec<String> {
        self.containers().filter(|c| bad(c)).map(|c| text(&c["name"]).to_owned()).collect()
    }

    pub fn is_windows(&self) -> bool {
        self.spec()["os"]["name"] == "windows"
    }

    /// Root in such a pod is nobody on the node.
    pub fn has_user_namespace(&self) -> bool {
        self.spec()["hostUsers"] == false
    }
}

pub fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason: reason.into(), detail: detail.into() })
}

/// `"a", "b"`
pub fn join_quoted<T: AsRef<str>>(list: &[T]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    quoted.join(", ")
}

pub fn plural(singular: &'static str, plural: &'static str, count: usize) -> &'static str {
    if count == 1 { singular } else { plural }
}

/// `container "a"` or `containers "a", "b"`
pub fn containers(names: &[String]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), join_quoted(names))
}

/// `pod`, containers, or `pod and containers`; `None` for neither.
pub fn setters(pod: bool, names: &[String]) -> Option<String> {
    match (pod, names.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".to_owned()),
        (false, false) => Some(containers(names)),
        (true, false) => Some(format!("pod and {}", containers(names))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(level: Level, version: Version, spec: Value) -> Vec<String> {
        violations(LevelVersion { level, version }, &json!({"spec": spec}))
            .iter()
            .map(Violation::to_string)
            .collect()
    }

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let spec = json!({"containers": [{"name": "c"}]});
        assert!(told(Level::Baseline, Version::Latest, spec.clone()).is_empty());
        assert_eq!(
            told(Level::Restricted, Version::Latest, spec),
            [
                r#"allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)"#,
                r#"unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])"#,
                r#"runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)"#,
                r#"seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
            ]
        );
    }

    #[test]
    fn a_hardened_pod_is_restricted() {
        let spec = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        });
        assert_eq!(told(Level::Restricted, Version::Latest, spec), Vec::<String>::new());
    }

    #[test]
    fn every_way_to_the_host_is_named() {
        let spec = json!({
            "hostNetwork": true,
            "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]},
            "containers": [
                {"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}},
                {"name": "b", "ports": [{"hostPort": 80}, {"hostPort": 443}]},
            ],
        });
        assert_eq!(
            told(Level::Baseline, Version::Latest, spec.clone()),
            [
                r#"non-default capabilities (container "a" must not include "SYS_ADMIN" in securityContext.capabilities.add)"#,
                "host namespaces (hostNetwork=true)",
                r#"hostPath volumes (volume "h")"#,
                r#"hostPort (container "b" uses hostPorts 443, 80)"#,
                r#"privileged (container "a" must not set securityContext.privileged=true)"#,
                "forbidden sysctls (kernel.msgmax)",
            ]
        );
        let older = told(Level::Baseline, Version::Minor(31), spec);
        assert!(
            older.contains(&"forbidden sysctls (kernel.msgmax, net.ipv4.tcp_rmem)".to_owned()),
            "{older:?}"
        );
    }
}
