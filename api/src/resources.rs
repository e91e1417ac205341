//! What is served: groups, versions, resources and subresources with their verbs and names, read once from the
//! embedded facts. Discovery, routes and OpenAPI are derived from this list.

mod selectable;

use std::sync::LazyLock;

use serde::Deserialize;

use crate::gvk::GroupVersionResource;
use crate::schema::{self, TypeRef};

pub use selectable::{SelectableFields, selectable_fields};

static TABLE: LazyLock<Table> = LazyLock::new(Table::parse);

struct Table {
    groups: Vec<Group>,
    resources: Vec<Resource>,
    /// Positions in `resources`, sorted by (group, version, resource).
    by_path: Vec<u16>,
}

impl Table {
    fn parse() -> Self {
        let resources: Vec<Resource> = records(include_str!("../facts/resources.jsonl")).collect();
        let mut by_path: Vec<u16> = (0..resources.len() as u16).collect();
        by_path.sort_unstable_by_key(|at| resources[usize::from(*at)].path());
        Self { groups: records(include_str!("../facts/groups.jsonl")).collect(), resources, by_path }
    }
}

/// Parses a generated table; a test reads every one, so a line that does not parse is a defect of the build.
fn records<T: Deserialize<'static>>(text: &'static str) -> impl Iterator<Item = T> {
    text.lines().map(|line| serde_json::from_str(line).expect("the generator writes records of this form"))
}

/// One API group.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Empty for the core group.
    #[serde(rename = "group")]
    pub name: &'static str,
    /// Most preferred first.
    pub versions: Vec<&'static str>,
    pub preferred: &'static str,
    /// Versions served without `--runtime-config`.
    pub enabled_by_default: Vec<&'static str>,
    group_priority: Option<i32>,
    version_priority: std::collections::BTreeMap<&'static str, Option<i32>>,
}

impl Group {
    /// `spec.groupPriorityMinimum` of the group's APIServices.
    pub fn priority(&self) -> i32 {
        self.group_priority.unwrap_or(UNLISTED_GROUP_PRIORITY)
    }

    /// `spec.versionPriority` of a version's APIService.
    pub fn version_priority(&self, version: &str) -> i32 {
        self.version_priority.get(version).copied().flatten().unwrap_or(UNLISTED_VERSION_PRIORITY)
    }
}

/// What the aggregator gives to groups and versions that its own list does not name.
const UNLISTED_GROUP_PRIORITY: i32 = 1000;
const UNLISTED_VERSION_PRIORITY: i32 = 15;

/// One resource of one version.
#[derive(Debug, Deserialize)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    /// The plural name, as in URLs.
    #[serde(rename = "resource")]
    pub name: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Sorted, as discovery shows them.
    pub verbs: Vec<&'static str>,
    #[serde(default, rename = "short")]
    pub short_names: Vec<&'static str>,
    #[serde(default)]
    pub categories: Vec<&'static str>,
    #[serde(rename = "sub")]
    pub subresources: Vec<Subresource>,
    pub stage: Stage,
    /// Served without `--runtime-config` and `--feature-gates`.
    #[serde(rename = "default")]
    pub enabled_by_default: bool,
    /// The feature gate that must be on.
    pub gate: Option<&'static str>,
    /// The version objects are stored in; None for resources that are not stored.
    #[serde(rename = "storage")]
    pub storage_version: Option<&'static str>,
    /// Discovery's `storageVersionHash`.
    #[serde(rename = "hash")]
    pub storage_version_hash: Option<&'static str>,
    /// Never stored: reviews, bindings, component statuses.
    #[serde(default, rename = "virtual")]
    pub is_virtual: bool,
    /// Served by another API server through aggregation.
    #[serde(default, rename = "aggregated")]
    pub is_aggregated: bool,
    /// Where the objects lie in the store when it is not `<group>/<resource>`.
    pub etcd: Option<&'static str>,
    #[serde(rename = "type")]
    type_name: &'static str,
}

impl Resource {
    /// The schema of the resource's kind.
    pub fn type_ref(&self) -> TypeRef {
        schema::by_name(self.type_name).expect("a test looks up the type of every resource")
    }

    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group, self.version, self.name)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    fn path(&self) -> (&'static str, &'static str, &'static str) {
        (self.group, self.version, self.name)
    }
}

/// A subresource: `status` of `pods/status`.
#[derive(Debug, Deserialize)]
pub struct Subresource {
    pub name: &'static str,
    pub kind: &'static str,
    pub verbs: Vec<&'static str>,
    /// Group and version of `kind` where they are not the resource's own.
    pub gv: Option<(&'static str, &'static str)>,
}

/// How far along a resource's version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    #[serde(rename = "alpha")]
    Alpha,
    #[serde(rename = "beta")]
    Beta,
    #[serde(rename = "GA")]
    Stable,
}

/// All groups, in discovery's order.
pub fn groups() -> &'static [Group] {
    &TABLE.groups
}

pub fn group(name: &str) -> Option<&'static Group> {
    TABLE.groups.iter().find(|group| group.name == name)
}

/// All resources, sorted by group, version and name.
pub fn all() -> &'static [Resource] {
    &TABLE.resources
}

/// The resources of one version of a group.
pub fn of_version(group: &str, version: &str) -> impl Iterator<Item = &'static Resource> {
    TABLE.resources.iter().filter(move |resource| resource.group == group && resource.version == version)
}

/// The resource with this plural name.
pub fn by_path(group: &str, version: &str, resource: &str) -> Option<&'static Resource> {
    let wanted = (group, version, resource);
    let at =
        TABLE.by_path.binary_search_by(|at| TABLE.resources[usize::from(*at)].path().cmp(&wanted)).ok()?;
    Some(&TABLE.resources[usize::from(TABLE.by_path[at])])
}

/// The resource whose objects are of this kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    of_version(group, version).find(|resource| resource.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_a_type_of_its_kind_and_a_listed_version() {
        for resource in all() {
            let of = resource.type_ref();
            assert_eq!(of.short_name(), resource.kind);
            let group = group(resource.group).expect(resource.group);
            assert!(group.versions.contains(&resource.version), "{}", resource.gvr());
            assert!(std::ptr::eq(
                by_path(resource.group, resource.version, resource.name).expect("path"),
                resource
            ));
        }
    }

    #[test]
    fn resources_are_found_by_path_and_kind() {
        let pods = by_path("", "v1", "pods").expect("pods");
        assert_eq!((pods.kind, pods.short_names.as_slice()), ("Pod", &["po"][..]));
        assert_eq!(pods.subresource("eviction").and_then(|sub| sub.gv), Some(("policy", "v1")));
        assert_eq!(by_kind("apps", "v1", "Deployment").expect("deployments").name, "deployments");
        assert!(by_path("apps", "v1", "pods").is_none());
    }

    #[test]
    fn core_comes_first_and_has_its_priority() {
        assert_eq!(
            (groups()[0].name, groups()[0].priority(), groups()[0].version_priority("v1")),
            ("", 18000, 1)
        );
    }
}
