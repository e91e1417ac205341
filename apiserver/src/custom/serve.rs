//! From an established definition to what the catalogue holds.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use knarr_api::gvk::GroupVersionKind;
use knarr_api::table::Printer;
use knarr_storage::Error as StoreError;

use super::conversion::Conversion;
use super::definition::{Definition, DefinitionVersion, field_paths};
use super::schema::CustomSchema;
use super::strategy::CustomStrategy;
use crate::cache::{Extractor, FieldSource, ROOT};
use crate::catalogue::{
    Catalogue, FieldNames, Group, Name, Resource, ScalePaths, Serving, Storage, Subresource,
    SubresourceServing, Version, api_version,
};
use crate::registry::{Registry, Rules};

const VERBS: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The stored side of a definition. Reads what is stored when the definition is new, or is to be served `anew`.
pub async fn storage(
    registry: &Registry,
    definition: &Definition,
    anew: bool,
) -> Result<Arc<Storage>, StoreError> {
    let spec = &definition.spec;
    let prefix = format!("{ROOT}{}/{}/", spec.group, spec.names.plural);
    let stored = definition.storage_version();
    let paths = definition.selectable_paths();
    let extractor = Extractor::new(paths.iter().map(|path| (path.as_str(), "")));
    let cache = match anew {
        true => registry.cache.replace(&prefix, extractor).await?,
        false => registry.cache.add(&prefix, extractor).await?,
    };
    let schemas = spec.versions.iter().map(|version| {
        let schema = CustomSchema::new(version, spec.preserve_unknown_fields);
        (api_version(&spec.group, &version.name), Arc::new(schema))
    });
    let schemas: BTreeMap<String, Arc<CustomSchema>> = schemas.collect();
    let version = stored.map(|version| version.name.clone()).unwrap_or_default();
    let gvk = GroupVersionKind::new(spec.group.clone(), version.clone(), spec.names.kind.clone());
    let schema =
        schemas.get(&api_version(&spec.group, &version)).map(|schema| schema.structural.to_type(&gvk));
    let has_status = stored.is_some_and(|version| version.subresources.status.is_some());
    Ok(Arc::new(Storage {
        group: spec.group.clone().into(),
        version: version.into(),
        resource: spec.names.plural.clone().into(),
        kind: spec.names.kind.clone().into(),
        namespaced: definition.is_namespaced(),
        rules: Rules::custom(has_status),
        strategy: Arc::new(CustomStrategy { schemas }),
        schema,
        conversion: Some(conversion(registry, definition)),
        mixed: definition.is_mixed(),
        cache,
    }))
}

fn conversion(registry: &Registry, definition: &Definition) -> Conversion {
    let spec = &definition.spec.conversion;
    match &spec.webhook {
        Some(webhook) if spec.strategy == "Webhook" => {
            Conversion::Webhook { webhook: webhook.clone(), caller: registry.webhooks.get().cloned() }
        }
        _ => Conversion::Rename,
    }
}

/// The built-in catalogue with the custom resources in it.
pub fn catalogue<'a>(
    builtin: &Catalogue,
    served: impl Iterator<Item = (&'a Definition, &'a Arc<Storage>)>,
) -> Catalogue {
    let mut groups = builtin.groups.clone();
    for (definition, storage) in served {
        let name = Name::from(definition.spec.group.clone());
        let at = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            groups.push(Group { name: name.clone(), versions: Vec::new() });
            groups.len() - 1
        });
        for version in definition.served_versions() {
            let resource = Arc::new(resource(definition, version, storage));
            let versions = &mut groups[at].versions;
            let in_group =
                versions.iter().position(|known| known.name == version.name).unwrap_or_else(|| {
                    versions.push(Version { name: version.name.clone().into(), resources: BTreeMap::new() });
                    versions.len() - 1
                });
            versions[in_group].resources.insert(resource.name.clone(), resource);
        }
        groups[at].versions.sort_by(|a, b| compare_versions(&a.name, &b.name));
    }
    Catalogue::new(groups)
}

fn resource(definition: &Definition, version: &DefinitionVersion, storage: &Arc<Storage>) -> Resource {
    let spec = &definition.spec;
    let names = &definition.status.accepted_names;
    let owned = |list: &[String]| list.iter().map(|name| Name::from(name.clone())).collect();
    // A definition on its way out takes nothing new.
    let ending = definition.metadata.deletion_timestamp.is_some();
    let verbs =
        VERBS.iter().filter(|verb| !ending || **verb != "create").map(|verb| Name::from(*verb)).collect();
    // Slots are those of all versions together.
    let slots = definition.selectable_paths();
    let fields = field_paths(version)
        .into_iter()
        .filter_map(|path| Some((slots.iter().position(|known| *known == path)?, path)));
    Resource {
        group: spec.group.clone().into(),
        version: version.name.clone().into(),
        name: names.plural.clone().into(),
        singular: names.singular.clone().into(),
        kind: names.kind.clone().into(),
        list_kind: names.list_kind.clone(),
        namespaced: definition.is_namespaced(),
        verbs,
        short_names: owned(&names.short_names),
        categories: owned(&names.categories),
        storage_version_hash: storage_hash(storage),
        schema: None,
        custom: Some(Arc::new(CustomSchema::new(version, spec.preserve_unknown_fields))),
        serving: Serving::Stored(storage.clone()),
        subresources: subresources(spec.group.as_str(), version, &names.kind),
        fields: FieldNames {
            sources: fields.map(|(at, path)| (path.into(), FieldSource::Slot(at))).collect(),
        },
        bare_items: false,
        warning: warning(definition, version),
        printer: printer(version),
    }
}

/// What whoever uses a deprecated version is told.
fn warning(definition: &Definition, version: &DefinitionVersion) -> Option<String> {
    let spec = &definition.spec;
    let usual = || format!("{} {} is deprecated", api_version(&spec.group, &version.name), spec.names.kind);
    version.deprecated.then(|| version.deprecation_warning.clone().unwrap_or_else(usual))
}

/// Tells clients when objects are stored in another version.
fn storage_hash(storage: &Storage) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let text = format!("{}/{}/{}", storage.group, storage.version, storage.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(text)[..8])
}

fn printer(version: &DefinitionVersion) -> Printer {
    Printer::custom(&version.additional_printer_columns)
        .or_else(|error| {
            tracing::warn!(%error, version = version.name, "printer columns are left out");
            Printer::custom(&[])
        })
        .unwrap_or_else(|_| Printer::built_in("", ""))
}

fn subresources(group: &str, version: &DefinitionVersion, kind: &str) -> BTreeMap<Name, Subresource> {
    let mut served = BTreeMap::new();
    let verbs = || SUBRESOURCE_VERBS.iter().map(|verb| Name::from(*verb)).collect();
    if version.subresources.status.is_some() {
        let status = Subresource {
            kind: kind.to_owned().into(),
            group: group.to_owned().into(),
            version: version.name.clone().into(),
            verbs: verbs(),
            serving: SubresourceServing::Status,
        };
        served.insert("status".into(), status);
    }
    if let Some(scale) = &version.subresources.scale {
        let path = |text: &str| text.trim_start_matches('.').to_owned();
        let paths = ScalePaths {
            spec_replicas: path(&scale.spec_replicas_path),
            status_replicas: path(&scale.status_replicas_path),
            selector: scale.label_selector_path.as_deref().map(path).unwrap_or_default(),
        };
        let scale = Subresource {
            kind: "Scale".into(),
            group: "autoscaling".into(),
            version: "v1".into(),
            verbs: verbs(),
            serving: SubresourceServing::Scale(Arc::new(paths)),
        };
        served.insert("scale".into(), scale);
    }
    served
}

/// Upstream's order of versions: stable before beta before alpha, newer before older, anything else last.
fn compare_versions(a: &str, b: &str) -> Ordering {
    fn rank(version: &str) -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let suffix = &rest[digits..];
        if suffix.is_empty() {
            return Some((2, major, 0));
        }
        let (stage, minor) = match suffix.strip_prefix("beta") {
            Some(minor) => (1, minor),
            None => (0, suffix.strip_prefix("alpha")?),
        };
        Some((stage, major, minor.parse().ok()?))
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_maturity_and_age() {
        let mut versions = ["foo1", "v1alpha2", "v10", "v1beta1", "v2", "v1", "v1beta10", "v1alpha1"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta10", "v1beta1", "v1alpha2", "v1alpha1", "foo1"]);
    }
}
