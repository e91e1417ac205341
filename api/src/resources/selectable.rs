//! Which fields a field selector may name.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

static TABLE: LazyLock<Vec<SelectableFields>> =
    LazyLock::new(|| super::records(include_str!("../../facts/fieldselectors.jsonl")).collect());

/// The selectable fields of one resource.
#[derive(Debug, Deserialize)]
pub struct SelectableFields {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    pub fields: Vec<&'static str>,
    /// Old names that are still accepted, and what they stand for.
    #[serde(default)]
    alias: BTreeMap<&'static str, &'static str>,
}

impl SelectableFields {
    /// Whether a selector may name the field.
    pub fn contains(&self, field: &str) -> bool {
        self.fields.contains(&field) || self.alias.contains_key(field)
    }

    /// The name that an old name stands for.
    pub fn canonical<'a>(&'a self, field: &'a str) -> &'a str {
        self.alias.get(field).copied().unwrap_or(field)
    }
}

/// The selectable fields of a resource that has more (or fewer) than `metadata.name` and `metadata.namespace`; None
/// for all others.
pub fn selectable_fields(group: &str, version: &str, resource: &str) -> Option<&'static SelectableFields> {
    TABLE.iter().find(|row| (row.group, row.version, row.resource) == (group, version, resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_of_pod_fields_are_accepted() {
        let pods = selectable_fields("", "v1", "pods").expect("pods");
        assert!(
            pods.contains("spec.host") && pods.contains("status.phase") && !pods.contains("spec.priority")
        );
        assert_eq!(pods.canonical("spec.host"), "spec.nodeName");
        assert!(selectable_fields("", "v1", "configmaps").is_none());
    }
}
