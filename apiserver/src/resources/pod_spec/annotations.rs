//! Annotations that mean something to pods.

use knarr_api::field::{Error, ErrorList, quote};
use serde_json::{Map, Value};

use super::os::every_container;
use super::paths;
use super::validate::MIRROR;
use crate::resources::at::At;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What annotations of a pod or template must say; `annotations` may be absent.
pub fn validate(annotations: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    for (key, value) in entries(annotations) {
        let at = At::new(Some(value), annotations.path().key(key.to_owned()));
        let text = at.str();
        if key == MIRROR && !spec.filled("nodeName") {
            errors.push(at.invalid("must set spec.nodeName if mirror pod annotation is set"));
        }
        if key == DELETION_COST && !is_deletion_cost(text) {
            errors.push(at.invalid("must be a 32bit integer"));
        }
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            seccomp(&At::new(Some(value), annotations.path().child(key.to_owned())), errors);
        }
        if let Some(container) = key.strip_prefix(APP_ARMOR) {
            if !every_container(spec).any(|known| known.text("name") == container) {
                errors.push(at.invalid_as(container, "container not found"));
            }
            if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
                errors.push(at.invalid(format!("invalid AppArmor profile name: {}", quote(text))));
            }
        }
    }
}

fn entries<'a>(annotations: &At<'a>) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
    let map = annotations.value().and_then(Value::as_object).into_iter().flatten();
    map.map(|(key, value)| (key.as_str(), value))
}

/// No sign but a minus, no leading zeros.
fn is_deletion_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = text == "0" || (!digits.starts_with(['0', '+']) && !digits.is_empty());
    plain && text.parse::<i32>().is_ok()
}

fn seccomp(at: &At<'_>, errors: &mut ErrorList) {
    let profile = at.str();
    if matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(path) => {
            let path = Value::from(path);
            paths::descending(&At::new(Some(&path), at.path().clone()), errors);
        }
        None => errors.push(at.invalid("must be a valid seccomp profile")),
    }
}

/// Annotations and fields that say the same thing must agree on a new pod.
pub fn validate_on_create(annotations: &At<'_>, spec: &At<'_>, errors: &mut ErrorList) {
    let known: Map<String, Value> = match annotations.value() {
        Some(Value::Object(known)) if known.keys().any(|key| key.contains("security")) => known.clone(),
        _ => return,
    };
    let annotation = |key: &str| known.get(key).and_then(Value::as_str);
    if let (Some(profile), Some(text)) =
        (spec.at("securityContext").some("seccompProfile"), annotation(SECCOMP_POD))
    {
        must_match(&profile, &profile, text, "seccomp", errors);
    }
    let windows = spec.at("os").text("name") == "windows";
    for container in every_container(spec) {
        let name = container.text("name");
        let context = container.at("securityContext");
        if let (Some(profile), Some(text)) =
            (context.some("seccompProfile"), annotation(&format!("{SECCOMP_CONTAINER}{name}")))
        {
            must_match(&profile, &profile, text, "seccomp", errors);
        }
        let of_pod = || spec.at("securityContext").some("appArmorProfile");
        if let (false, Some(profile), Some(text)) = (
            windows,
            context.some("appArmorProfile").or_else(of_pod),
            annotation(&format!("{APP_ARMOR}{name}")),
        ) {
            must_match(&context.at("appArmorProfile"), &profile, text, "apparmor", errors);
        }
    }
}

fn must_match(at: &At<'_>, profile: &At<'_>, text: &str, what: &str, errors: &mut ErrorList) {
    let local = text.strip_prefix("localhost/");
    let fits = match profile.text("type") {
        "Unconfined" => text == "unconfined",
        "RuntimeDefault" => text == "runtime/default" || (what == "seccomp" && text == "docker/default"),
        "Localhost" => local.is_some(),
        _ => true,
    };
    if !fits {
        let path = at.path().child("type");
        errors.push(Error::forbidden(&path, format!("{what} type in annotation and field must match")));
    } else if profile.text("type") == "Localhost"
        && profile.get("localhostProfile").and_then(Value::as_str) != local
    {
        let path = at.path().child("localhostProfile");
        errors.push(Error::forbidden(&path, format!("{what} profile in annotation and field must match")));
    }
}

/// Some annotations of a pod stay as they were made.
pub fn validate_update(annotations: &At<'_>, old: &At<'_>, errors: &mut ErrorList) {
    let fixed = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    let path = |key: &str| annotations.path().key(key.to_owned());
    for (key, value) in entries(old) {
        if let Some(what) = fixed(key).filter(|_| annotations.get(key) != Some(value)) {
            errors.push(Error::forbidden(&path(key), format!("may not remove or update {what}")));
        }
    }
    for (key, _) in entries(annotations) {
        if let Some(what) = fixed(key).filter(|_| old.get(key).is_none()) {
            errors.push(Error::forbidden(&path(key), format!("may not add {what}")));
        }
    }
}
