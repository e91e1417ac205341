//! What the cluster keeps about itself.

use super::super::Cell;
use super::super::view::{join, some_of};
use super::View;

pub(super) fn component_status(object: View<'_>) -> Vec<Cell<'_>> {
    let healthy = object.condition("conditions", "Healthy");
    let status = match healthy.map(|condition| condition.str("status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let text = |field| healthy.map_or("", |condition| condition.str(field)).into();
    vec![object.name(), status.into(), text("message"), text("error")]
}

pub(super) fn custom_resource_definition(object: View<'_>) -> Vec<Cell<'_>> {
    let served = object.items("spec.versions").filter(|version| version.bool("served"));
    let mut versions: Vec<String> = served
        .map(|version| {
            let suffix = if version.bool("storage") { "(storage)" } else { "" };
            format!("{}{suffix}", version.str("name"))
        })
        .collect();
    versions.sort_unstable();
    vec![
        object.name(),
        object.str("spec.scope").into(),
        join(versions, ",").into(),
        object.str("metadata.creationTimestamp").into(),
        object.str("spec.group").into(),
        object.str("spec.names.kind").into(),
        object.joined("spec.names.shortNames").into(),
        object.is_true("status.conditions", "Established").into(),
    ]
}

pub(super) fn api_service(object: View<'_>) -> Vec<Cell<'_>> {
    let service = object.at("spec.service");
    let shown = if service.is_null() {
        "Local".to_owned()
    } else {
        format!("{}/{}", service.str("namespace"), service.str("name"))
    };
    let available: Cell<'_> = match object.condition("status.conditions", "Available") {
        None => "Unknown".into(),
        Some(condition) if condition.str("status") == "True" => "True".into(),
        Some(condition) => format!("{} ({})", condition.str("status"), condition.str("reason")).into(),
    };
    vec![object.name(), shown.into(), available, object.age()]
}

pub(super) fn lease(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str("spec.holderIdentity").into(), object.age()]
}

pub(super) fn lease_candidate(object: View<'_>) -> Vec<Cell<'_>> {
    let text = |field| object.str(field).into();
    vec![
        object.name(),
        text("spec.leaseName"),
        text("spec.binaryVersion"),
        text("spec.emulationVersion"),
        object.age(),
    ]
}

pub(super) fn storage_version(object: View<'_>) -> Vec<Cell<'_>> {
    let version =
        |version: View<'_>| format!("{}={}", version.str("apiServerID"), version.str("encodingVersion"));
    let versions = object.items("status.storageVersions").map(version).collect();
    vec![
        object.name(),
        object.str_or("status.commonEncodingVersion", "<unset>").into(),
        some_of(versions, 3).into(),
        object.age(),
    ]
}

pub(super) fn storage_version_migration(object: View<'_>) -> Vec<Cell<'_>> {
    let resource = object.at("spec.resource");
    let resource = match resource.str("group") {
        "" => resource.str("resource").to_owned(),
        group => format!("{}.{group}", resource.str("resource")),
    };
    let held = object.items("status.conditions").rev().find(|condition| {
        condition.str("status") == "True"
            && matches!(condition.str("type"), "Running" | "Failed" | "Succeeded")
    });
    vec![object.name(), resource.into(), held.map_or("Unknown", |condition| condition.str("type")).into()]
}

pub(super) fn status(object: View<'_>) -> Vec<Cell<'_>> {
    ["status", "reason", "message"].map(|field| object.str(field).into()).to_vec()
}
