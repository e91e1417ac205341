//! Security contexts of pods and containers.

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;

use super::{paths, windows};
use crate::resources::at::At;

const SYSCTL_MAX: usize = 253;
const SYSCTL_PATTERN: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const PROFILE_MAX: usize = 4095;
const TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// Whether the pod's users are the host's.
pub fn uses_host_users(spec: &At<'_>) -> bool {
    spec.get("hostUsers").and_then(serde_json::Value::as_bool) != Some(false)
}

pub fn of_pod(spec: &At<'_>, errors: &mut ErrorList) {
    let Some(context) = spec.some("securityContext") else { return };
    context.at("fsGroup").check_int(errors, names::group_id);
    context.at("runAsUser").check_int(errors, names::user_id);
    context.at("runAsGroup").check_int(errors, names::group_id);
    context.items("supplementalGroups").for_each(|group| group.check_int(errors, names::group_id));
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let shared =
            At::new(spec.get("shareProcessNamespace"), context.path().child("shareProcessNamespace"));
        errors.push(shared.invalid("ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    sysctls(spec, &context, errors);
    if let Some(policy) = context.some("fsGroupChangePolicy") {
        policy.one_of(errors, &["Always", "OnRootMismatch"]);
    }
    profiles(&context, errors);
    if let Some(policy) = context.some("supplementalGroupsPolicy") {
        policy.one_of(errors, &["Merge", "Strict"]);
    }
    if let Some(policy) = context.some("seLinuxChangePolicy") {
        policy.one_of(errors, &["MountOption", "Recursive"]);
    }
}

pub fn of_container(context: &At<'_>, host_users: bool, errors: &mut ErrorList) {
    context.at("runAsUser").check_int(errors, names::user_id);
    context.at("runAsGroup").check_int(errors, names::group_id);
    if let Some(mount) = context.some("procMount") {
        mount.one_of(errors, &["Default", "Unmasked"]);
        if host_users && mount.str() == "Unmasked" {
            errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
        }
    }
    if context.get("allowPrivilegeEscalation").and_then(serde_json::Value::as_bool) == Some(false) {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(context.invalid(detail));
        }
        for _ in context.at("capabilities").texts("add").filter(|added| *added == "CAP_SYS_ADMIN") {
            let detail =
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(context.invalid(detail));
        }
    }
    profiles(context, errors);
}

fn profiles(context: &At<'_>, errors: &mut ErrorList) {
    if let Some(profile) = context.some("seccompProfile") {
        seccomp(&profile, errors);
    }
    if let Some(options) = context.some("windowsOptions") {
        windows::options(&options, errors);
    }
    if let Some(profile) = context.some("appArmorProfile") {
        app_armor(&profile, errors);
    }
}

fn seccomp(profile: &At<'_>, errors: &mut ErrorList) {
    let kind = profile.at("type");
    if kind.str().is_empty() {
        errors.push(kind.required("type is required when seccompProfile is set"));
    } else {
        kind.one_of(errors, &TYPES);
    }
    let local = profile.at("localhostProfile");
    match (kind.str() == "Localhost", local.value().is_some()) {
        (true, true) => paths::descending(&local, errors),
        (true, false) => errors.push(local.required("must be set when seccomp type is Localhost")),
        (false, true) => {
            let shown = profile.value().cloned().unwrap_or_default();
            errors.push(local.invalid_as(shown, "can only be set when seccomp type is Localhost"));
        }
        (false, false) => {}
    }
}

fn app_armor(profile: &At<'_>, errors: &mut ErrorList) {
    const MUST_BE_SET: &str = "must be set when AppArmor type is Localhost";
    let (kind, local) = (profile.at("type"), profile.at("localhostProfile"));
    match kind.str() {
        "Localhost" => {
            let name = local.str();
            if name.trim() != name {
                errors.push(local.invalid("must not be padded with whitespace"));
            } else if name.is_empty() {
                errors.push(local.required(MUST_BE_SET));
            }
            if name.len() > PROFILE_MAX {
                errors.push(Error::too_long(local.path(), PROFILE_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if local.value().is_some() {
                errors.push(local.invalid("can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        _ => errors.push(kind.unsupported(&TYPES)),
    }
}

fn sysctls(spec: &At<'_>, context: &At<'_>, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for sysctl in context.items("sysctls") {
        let name = sysctl.at("name");
        if name.str().is_empty() {
            errors.push(name.required(""));
        } else if !is_sysctl(name.str()) {
            let detail =
                format!("must have at most {SYSCTL_MAX} characters and match regex {SYSCTL_PATTERN}");
            errors.push(name.invalid(detail));
        } else if seen.contains(name.str()) {
            errors.push(name.duplicate());
        }
        match namespace_of(name.str()) {
            Some("net") if spec.flag("hostNetwork") => {
                errors.push(name.invalid("may not be specified when 'hostNetwork' is true"));
            }
            Some("ipc") if spec.flag("hostIPC") => {
                errors.push(name.invalid("may not be specified when 'hostIPC' is true"));
            }
            _ => {}
        }
        seen.insert(name.str());
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |part: &str| {
        part.starts_with(edge)
            && part.ends_with(edge)
            && part.chars().all(|c| edge(c) || matches!(c, '-' | '_'))
    };
    name.len() <= SYSCTL_MAX && name.split(['.', '/']).all(segment)
}

/// The kernel namespace that a sysctl is of, where pods have their own.
fn namespace_of(name: &str) -> Option<&'static str> {
    let name = name.replace('/', ".");
    if name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p))
    {
        Some("ipc")
    } else if name.starts_with("net.") {
        Some("net")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::is_sysctl;

    #[test]
    fn sysctls_have_dots_or_slashes() {
        for name in ["a", "a.b", "a/b", "net.ipv4.tcp_syncookies", "a-b"] {
            assert!(is_sysctl(name), "{name}");
        }
        for name in ["", ".", "a.", "a..b", "A", "_a", "a b"] {
            assert!(!is_sysctl(name), "{name}");
        }
    }
}
