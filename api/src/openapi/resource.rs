//! What a document is told about one resource.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::custom;
use crate::gvk::{GroupVersionKind, Name};
use crate::resources;
use crate::schema::{self, TypeRef};

/// One resource of one version, built-in or custom.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Coordinates of the objects.
    pub kind: GroupVersionKind,
    /// The plural name, as in URLs.
    pub name: Name,
    pub namespaced: bool,
    pub verbs: Vec<Name>,
    pub subresources: Vec<Subresource>,
    pub definition: Definition,
    /// The definition of a list of objects.
    pub list: Definition,
}

/// A subresource: `status` of `pods/status`.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Name,
    /// What is read and written there; options for streams and proxies.
    pub kind: GroupVersionKind,
    pub verbs: Vec<Name>,
    pub definition: Definition,
}

/// The schema of a kind.
#[derive(Clone, Debug)]
pub enum Definition {
    Builtin(TypeRef),
    /// `openAPIV3Schema` as it stands in the definition, if it has one.
    Custom {
        kind: GroupVersionKind,
        schema: Option<Arc<Value>>,
    },
    /// A list of a custom resource.
    CustomList {
        kind: GroupVersionKind,
        item: GroupVersionKind,
        plural: Name,
    },
}

impl Definition {
    pub(super) fn name(&self) -> Cow<'_, str> {
        match self {
            Definition::Builtin(of) => Cow::Borrowed(&of.name),
            Definition::Custom { kind, .. } | Definition::CustomList { kind, .. } => {
                custom::name(kind).into()
            }
        }
    }
}

const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const WRITE_VERBS: &[&str] = &["get", "patch", "update"];

impl Resource {
    /// A custom resource with all verbs and without subresources.
    pub fn custom(
        kind: GroupVersionKind,
        plural: impl Into<Name>,
        list_kind: impl Into<Name>,
        namespaced: bool,
        schema: Option<Arc<Value>>,
    ) -> Self {
        let plural = plural.into();
        let list = GroupVersionKind { kind: list_kind.into(), ..kind.clone() };
        Self {
            name: plural.clone(),
            namespaced,
            verbs: ALL_VERBS.iter().map(|verb| Name::Borrowed(*verb)).collect(),
            subresources: Vec::new(),
            definition: Definition::Custom { kind: kind.clone(), schema },
            list: Definition::CustomList { kind: list, item: kind.clone(), plural },
            kind,
        }
    }

    /// Adds the subresource that reads and writes the status.
    pub fn with_status(mut self) -> Self {
        let (kind, definition) = (self.kind.clone(), self.definition.clone());
        self.subresources.push(Subresource::writable("status", kind, definition));
        self
    }

    /// Adds the subresource that reads and writes the number of replicas.
    pub fn with_scale(mut self) -> Self {
        if let Some(scale) = schema::by_gvk("autoscaling", "v1", "Scale") {
            let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
            self.subresources.push(Subresource::writable("scale", kind, Definition::Builtin(scale)));
        }
        self
    }
}

impl Subresource {
    fn writable(name: &'static str, kind: GroupVersionKind, definition: Definition) -> Self {
        let verbs = WRITE_VERBS.iter().map(|verb| Name::Borrowed(*verb)).collect();
        Self { name: name.into(), kind, verbs, definition }
    }
}

impl From<&'static resources::Resource> for Resource {
    fn from(resource: &'static resources::Resource) -> Self {
        let of = resource.type_ref();
        let list = schema::by_name(&format!("{}List", of.name)).unwrap_or_else(|| of.clone());
        let verbs = |verbs: &[&'static str]| verbs.iter().map(|verb| Name::Borrowed(*verb)).collect();
        Self {
            kind: GroupVersionKind::new(resource.group, resource.version, resource.kind),
            name: resource.name.into(),
            namespaced: resource.namespaced,
            verbs: verbs(&resource.verbs),
            subresources: resource
                .subresources
                .iter()
                .filter_map(|sub| {
                    let (group, version) = sub.gv.unwrap_or((resource.group, resource.version));
                    let definition = Definition::Builtin(schema::by_gvk(group, version, sub.kind)?);
                    let kind = GroupVersionKind::new(group, version, sub.kind);
                    Some(Subresource { name: sub.name.into(), kind, verbs: verbs(&sub.verbs), definition })
                })
                .collect(),
            definition: Definition::Builtin(of),
            list: Definition::Builtin(list),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subresource_has_a_definition() {
        for resource in resources::all() {
            assert_eq!(
                Resource::from(resource).subresources.len(),
                resource.subresources.len(),
                "{}",
                resource.gvr()
            );
        }
    }
}
