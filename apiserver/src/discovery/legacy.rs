//! `/api`, `/apis`, `/apis/<group>` and `/apis/<group>/<version>`.

use serde_json::{Value, json};

use super::groups::Group;
use crate::catalogue::{Catalogue, Resource, Subresource, api_version};

/// `/api`.
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]})
}

/// `/apis`.
pub fn groups(groups: &[Group<'_>]) -> Value {
    let groups: Vec<Value> = groups.iter().filter(|group| !group.name.is_empty()).map(describe).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub fn group(groups: &[Group<'_>], name: &str) -> Option<Value> {
    let group = groups.iter().find(|group| group.name == name && !group.name.is_empty())?;
    let mut document = describe(group);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

fn describe(group: &Group<'_>) -> Value {
    let version = |name: &str| json!({"groupVersion": api_version(group.name, name), "version": name});
    let versions: Vec<Value> = group.versions.iter().map(|known| version(known.name)).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": group.name, "versions": versions, "preferredVersion": preferred})
}

/// `/api/<version>` and `/apis/<group>/<version>`.
pub fn resources(catalogue: &Catalogue, group: &str, version: &str) -> Option<Value> {
    let served = catalogue.version(group, version)?;
    let mut list = Vec::new();
    for resource in served.resources.values() {
        list.push(describe_resource(resource));
        list.extend(
            resource.subresources.iter().map(|(name, sub)| describe_subresource(resource, name, sub)),
        );
    }
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version), "resources": list}),
    )
}

fn describe_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.name,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    if !resource.storage_version_hash.is_empty() {
        entry["storageVersionHash"] = json!(resource.storage_version_hash);
    }
    entry
}

fn describe_subresource(resource: &Resource, name: &str, sub: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{name}", resource.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if (&sub.group, &sub.version) != (&resource.group, &resource.version) {
        entry["group"] = json!(sub.group);
        entry["version"] = json!(sub.version);
    }
    entry
}
