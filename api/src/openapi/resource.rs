//! What a document is told about one resource.

use serde_json::Value;

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
    /// A schema as it is published, without references to other custom schemas.
    Custom {
        name: Name,
        schema: Value,
    },
}

impl Definition {
    pub(super) fn name(&self) -> &str {
        match self {
            Definition::Builtin(of) => &of.name,
            Definition::Custom { name, .. } => name,
        }
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
