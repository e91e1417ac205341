//! What Windows nodes want of a pod.

use knarr_api::field::{ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use super::os::every_container;
use crate::resources::at::At;

const CREDENTIAL_MAX_KIB: usize = 64;
const DOMAIN_MAX: usize = 256;
const USER_MAX: usize = 104;
const NOT_IN_USER: &str = "\"/\\:;|=,+*?<>@[]";
const NOT_IN_NETBIOS: &str = "\\/:*?\"<>|";

pub fn options(options: &At<'_>, errors: &mut ErrorList) {
    if let Some(name) = options.some("gmsaCredentialSpecName") {
        name.check(errors, names::dns_subdomain);
    }
    if let Some(spec) = options.some("gmsaCredentialSpec") {
        if spec.str().is_empty() {
            errors.push(spec.invalid("gmsaCredentialSpec cannot be an empty string"));
        } else if spec.str().len() > CREDENTIAL_MAX_KIB * 1024 {
            errors.push(
                spec.invalid(format!("gmsaCredentialSpec size must be under {CREDENTIAL_MAX_KIB} KiB")),
            );
        }
    }
    if let Some(name) = options.some("runAsUserName") {
        errors.extend(user_name(name.str()).into_iter().map(|wrong| name.invalid(wrong)));
    }
}

/// Everything wrong with `domain\user`.
fn user_name(name: &str) -> Vec<String> {
    let alone = |text: &str| vec![text.to_owned()];
    if name.is_empty() {
        return alone("runAsUserName cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return alone("runAsUserName cannot contain control characters");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return alone("runAsUserName cannot contain more than one backslash");
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_MAX) {
        wrong.push(format!("runAsUserName's Domain length must be under {DOMAIN_MAX} characters"));
    }
    if domain.is_some_and(|domain| !is_netbios(domain) && !is_dns(domain)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > USER_MAX {
        wrong.push(format!("runAsUserName's User length must not be longer than {USER_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| NOT_IN_USER.contains(c)) {
        wrong.push(
            r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.to_owned(),
        );
    }
    wrong
}

fn is_netbios(domain: &str) -> bool {
    let length = domain.chars().count();
    (1..=15).contains(&length) && !domain.starts_with('.') && !domain.contains(|c| NOT_IN_NETBIOS.contains(c))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Host-process containers are all or none, and on the host's network.
pub fn host_process(spec: &At<'_>, errors: &mut ErrorList) {
    let of = |context: &At<'_>| {
        context.at("securityContext").at("windowsOptions").get("hostProcess").and_then(Value::as_bool)
    };
    let pod = of(spec);
    let (mut all, mut host) = (0, 0);
    for container in every_container(spec) {
        all += 1;
        let own = of(&container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let at = container.at("securityContext").at("windowsOptions").at("hostProcess");
            errors.push(at.invalid(detail));
        }
        host += usize::from(own.or(pod) == Some(true));
    }
    if host == 0 {
        return;
    }
    if host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(spec.invalid_as("", detail));
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(spec.at("hostNetwork").invalid_as(false, detail));
    }
}

const POD_FIELDS: [&str; 9] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsUser",
    "runAsGroup",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const CONTAINER_FIELDS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// What a pod that says it is for Windows may not ask for.
pub fn only_windows(spec: &At<'_>, errors: &mut ErrorList) {
    const NOT_HERE: &str = "cannot be set for a windows pod";
    let refuse = |at: &At<'_>, field: &'static str, errors: &mut ErrorList| {
        errors.push(knarr_api::field::Error::forbidden(&path(at, field), NOT_HERE));
    };
    let context = spec.at("securityContext");
    for field in POD_FIELDS.into_iter().filter(|field| context.has(field)) {
        refuse(&context, field, errors);
    }
    for field in ["sysctls", "supplementalGroups"].into_iter().filter(|field| context.filled(field)) {
        refuse(&context, field, errors);
    }
    for field in ["hostUsers", "shareProcessNamespace"].into_iter().filter(|field| spec.has(field)) {
        refuse(spec, field, errors);
    }
    for field in ["hostPID", "hostIPC"].into_iter().filter(|field| spec.flag(field)) {
        refuse(spec, field, errors);
    }
    for container in every_container(spec) {
        let context = container.at("securityContext");
        for field in CONTAINER_FIELDS.into_iter().filter(|field| context.has(field)) {
            refuse(&context, field, errors);
        }
    }
}

fn path(at: &At<'_>, field: &'static str) -> Path {
    at.path().child(field)
}

#[cfg(test)]
mod tests {
    use super::user_name;

    #[test]
    fn user_names_may_have_a_domain() {
        for name in ["user", r"DOMAIN\user", r"a.example\user"] {
            assert!(user_name(name).is_empty(), "{name}");
        }
        for name in ["", r"a\b\c", r"\user", "a\tb", "...", "a@b", r"domain\"] {
            assert!(!user_name(name).is_empty(), "{name}");
        }
    }
}
