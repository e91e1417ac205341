//! `APIGroupDiscoveryList`: everything below `/api` or `/apis` in one document.

use serde_json::{Value, json};

use super::groups::{By, Group, Served};
use crate::catalogue::Resource;

/// The document for the core group (`/api`) or for all others (`/apis`).
pub fn document(groups: &[Group<'_>], core: bool, version: &str) -> Value {
    let groups = groups.iter().filter(|group| group.name.is_empty() == core);
    let items: Vec<Value> = groups.map(describe_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn describe_group(group: &Group<'_>) -> Value {
    let versions: Vec<Value> = group.versions.iter().map(describe_version).collect();
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = json!(group.name);
    }
    json!({"metadata": metadata, "versions": versions})
}

fn describe_version(version: &Served<'_>) -> Value {
    let (resources, freshness) = match &version.by {
        By::Local(known) => {
            let resources: Vec<Value> = known.resources.values().map(|resource| describe(resource)).collect();
            (Value::from(resources), "Current")
        }
        By::Remote(remote) => {
            let known = remote.documents().map(|documents| documents.resources.clone());
            let fresh = known.is_some() && remote.is_available();
            (known.unwrap_or_else(|| json!([])), if fresh { "Current" } else { "Stale" })
        }
    };
    json!({"version": version.name, "resources": resources, "freshness": freshness})
}

fn describe(resource: &Resource) -> Value {
    let scope = if resource.namespaced { "Namespaced" } else { "Cluster" };
    let mut entry = json!({
        "resource": resource.name,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": scope,
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        entry["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        entry["categories"] = json!(resource.categories);
    }
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|(name, sub)| {
            json!({
                "subresource": name,
                "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}
