//! A CustomResourceDefinition, as far as serving it needs to know.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::admission::Client;

/// Keeps a definition until its instances are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Definition {
    pub metadata: Metadata,
    pub spec: Spec,
    pub status: DefinitionStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    pub uid: String,
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    pub group: String,
    pub names: Names,
    pub scope: String,
    pub versions: Vec<DefinitionVersion>,
    pub conversion: Conversion,
    pub preserve_unknown_fields: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Names {
    pub plural: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub singular: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub list_kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefinitionVersion {
    pub name: String,
    pub served: bool,
    pub storage: bool,
    pub schema: VersionSchema,
    pub subresources: Subresources,
    pub additional_printer_columns: Vec<Value>,
    pub selectable_fields: Vec<SelectableField>,
    pub deprecated: bool,
    pub deprecation_warning: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VersionSchema {
    #[serde(rename = "openAPIV3Schema")]
    pub open_api: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Subresources {
    pub status: Option<Value>,
    pub scale: Option<Scale>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Scale {
    pub spec_replicas_path: String,
    pub status_replicas_path: String,
    pub label_selector_path: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelectableField {
    pub json_path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Conversion {
    pub strategy: String,
    pub webhook: Option<WebhookConversion>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WebhookConversion {
    pub client_config: Client,
    pub conversion_review_versions: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefinitionStatus {
    #[serde(deserialize_with = "or_default")]
    pub conditions: Vec<Value>,
    pub accepted_names: Names,
    #[serde(deserialize_with = "or_default")]
    pub stored_versions: Vec<String>,
}

/// Lists that are always shown are null while they are empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// The selectable fields' paths, without the leading dot.
pub fn field_paths(version: &DefinitionVersion) -> Vec<String> {
    version.selectable_fields.iter().map(|field| field.json_path.trim_start_matches('.').to_owned()).collect()
}

impl Definition {
    pub fn is_namespaced(&self) -> bool {
        self.spec.scope == "Namespaced"
    }

    pub fn is_established(&self) -> bool {
        self.status.conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
    }

    /// Whether another state of this definition makes requests be served in another way.
    pub fn serves_otherwise(&self, other: &Self) -> bool {
        self.metadata.uid != other.metadata.uid
            || self.spec != other.spec
            || self.status.accepted_names != other.status.accepted_names
    }

    /// It was deleted and waits for its instances to go.
    pub fn is_ending(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
            && self.metadata.finalizers.iter().any(|name| name == FINALIZER)
    }

    pub fn storage_version(&self) -> Option<&DefinitionVersion> {
        self.spec.versions.iter().find(|version| version.storage)
    }

    /// The paths of the selectable fields of all versions, each once.
    pub fn selectable_paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = Vec::new();
        for path in self.spec.versions.iter().flat_map(field_paths) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        paths
    }

    /// The versions that requests may name.
    pub fn served_versions(&self) -> impl Iterator<Item = &DefinitionVersion> {
        self.spec.versions.iter().filter(|version| version.served)
    }

    /// Some objects may be stored in another version than the one that is written now.
    pub fn is_mixed(&self) -> bool {
        self.status.stored_versions.len() > 1
    }
}
