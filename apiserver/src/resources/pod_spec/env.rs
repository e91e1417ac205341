//! Variables of a container's environment and where their values come from.

use knarr_api::field::{ErrorList, Path};
use knarr_api::names;

use super::paths;
use crate::resources::at::At;

const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const KNOWN_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
const TWO_SOURCES: &str = "may not have more than one field specified at a time";

pub fn validate(container: &At<'_>, errors: &mut ErrorList) {
    for variable in container.items("env") {
        variable.at("name").require(errors, names::relaxed_env_var_name);
        if let Some(source) = variable.some("valueFrom") {
            value_from(&source, variable.text("value"), errors);
        }
    }
    let list = container.at("envFrom");
    for from in container.items("envFrom") {
        env_from(&from, list.path(), errors);
    }
}

fn value_from(source: &At<'_>, value: &str, errors: &mut ErrorList) {
    if let Some(field) = source.some("fieldRef") {
        field_ref(&field, &FIELDS, errors);
    }
    if let Some(resource) = source.some("resourceFieldRef") {
        resource_field_ref(&resource, false, errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = source.some(key) {
            key.at("name").check(errors, names::dns_subdomain);
            key.at("key").require(errors, names::config_map_key);
        }
    }
    if let Some(file) = source.some("fileKeyRef") {
        file.at("key").require(errors, names::relaxed_env_var_name);
        file.at("volumeName").require(errors, names::dns_label);
        let path = file.at("path");
        path.require_text(errors);
        paths::no_backsteps(&path, errors);
    }
    let detail = match SOURCES.iter().filter(|field| source.has(field)).count() {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !value.is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => TWO_SOURCES,
    };
    errors.push(source.invalid_as("", detail));
}

fn env_from(from: &At<'_>, list: &Path, errors: &mut ErrorList) {
    if from.filled("prefix") {
        from.at("prefix").check(errors, names::relaxed_env_var_name);
    }
    let mut count = 0;
    for field in ["configMapRef", "secretRef"] {
        if let Some(reference) = from.some(field) {
            count += 1;
            reference.at("name").require(errors, |name| names::name_is_dns_subdomain(name, true));
        }
    }
    let detail = match count {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => TWO_SOURCES,
    };
    errors.push(knarr_api::field::Error::invalid(list, "", detail));
}

/// A field of the pod, which must be among `allowed` unless it is one label or annotation.
pub fn field_ref(at: &At<'_>, allowed: &[&str], errors: &mut ErrorList) {
    let (version, path) = (at.at("apiVersion"), at.at("fieldPath"));
    for field in [&version, &path] {
        if field.str().is_empty() {
            errors.push(field.required(""));
            return;
        }
    }
    let field = match known_field(version.str(), path.str()) {
        Ok(field) => field,
        Err(wrong) => {
            errors.push(path.invalid(format!("error converting fieldPath: {wrong}")));
            return;
        }
    };
    match subscript(field) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.extend(
                names::qualified_name(&key).into_iter().map(|wrong| at.invalid_as(key.as_str(), wrong)),
            );
        }
        Some((_, key)) => {
            errors.extend(names::qualified_name(key).into_iter().map(|wrong| at.invalid_as(key, wrong)));
        }
        None if allowed.contains(&field) => {}
        None => errors.push(knarr_api::field::Error::not_supported(path.path(), field, allowed)),
    }
}

/// The field as it is called now, if a pod has it.
fn known_field<'a>(version: &str, path: &'a str) -> Result<&'a str, String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    match subscript(path) {
        Some(("metadata.annotations" | "metadata.labels", _)) => Ok(path),
        Some(_) => Err(format!("field label does not support subscript: {path}")),
        None if path == "spec.host" => Ok("spec.nodeName"),
        None if KNOWN_FIELDS.contains(&path) => Ok(path),
        None => Err(format!("field label not supported: {path}")),
    }
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(field, _)| !field.is_empty())
}

/// An amount of a container's resources.
pub fn resource_field_ref(at: &At<'_>, in_volume: bool, errors: &mut ErrorList) {
    let resource = at.at("resource");
    let name = resource.str();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if in_volume && !at.filled("containerName") {
        errors.push(at.at("containerName").required(""));
    } else if name.is_empty() {
        errors.push(resource.required(""));
    } else if !RESOURCES.contains(&name) && !huge {
        errors.push(resource.unsupported(&RESOURCES));
    }
    divisor(at, name, huge, errors);
}

fn divisor(at: &At<'_>, resource: &str, huge: bool, errors: &mut ErrorList) {
    const UNITS: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let divisor = at.at("divisor");
    if divisor.quantity().is_none_or(|divisor| divisor.is_zero()) {
        return;
    }
    let what = match resource {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(divisor.str(), "1m" | "1") {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(divisor.invalid_as(resource, detail));
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !UNITS.split(", ").any(|unit| unit == divisor.str()) {
        let detail = format!("only divisor's values {UNITS} are supported with the {what} resource");
        errors.push(divisor.invalid_as(resource, detail));
    }
}
