//! What is served: every resource of every group and version, built-in and custom, with what serves it.

mod builtin;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response};
use knarr_api::schema::TypeRef;
use knarr_api::status::Status;
use knarr_api::table::Printer;
use serde_json::Value;

pub use builtin::{Extensions, builtin, stored_prefixes};

use crate::cache::{FieldSource, ResourceCache};
use crate::context::RequestContext;
use crate::custom::{Conversion, CustomSchema};
use crate::registry::{Rules, Strategy};

/// A name that is static for built-in resources.
pub type Name = knarr_api::gvk::Name;

/// One resource in one version.
pub struct Resource {
    pub group: Name,
    pub version: Name,
    /// Plural, as in paths.
    pub name: Name,
    pub singular: Name,
    pub kind: Name,
    pub list_kind: String,
    pub namespaced: bool,
    pub verbs: Vec<Name>,
    pub short_names: Vec<Name>,
    pub categories: Vec<Name>,
    pub storage_version_hash: String,
    pub schema: Option<TypeRef>,
    /// The schema of a custom resource.
    pub custom: Option<Arc<CustomSchema>>,
    pub serving: Serving,
    pub subresources: BTreeMap<Name, Subresource>,
    /// What a field selector may name beyond `metadata.name` and `metadata.namespace`.
    pub fields: FieldNames,
    /// Items of lists carry no kind and apiVersion of their own.
    pub bare_items: bool,
    /// What whoever uses this version should know.
    pub warning: Option<String>,
    /// Shows objects as rows of a table.
    pub printer: Printer,
}

/// What answers requests for a resource.
pub enum Serving {
    /// Objects in the store.
    Stored(Arc<Storage>),
    /// Nothing is kept: a POST is answered (reviews).
    Answered(Arc<dyn Answer>),
    /// Nothing is kept: objects are made when they are asked for (figures, states).
    Computed(Arc<dyn Computed>),
}

/// The objects of one resource in the store, shared by all its versions.
pub struct Storage {
    pub group: Name,
    /// The version objects are stored in.
    pub version: Name,
    pub resource: Name,
    pub kind: Name,
    pub namespaced: bool,
    pub rules: Rules,
    pub strategy: Arc<dyn Strategy>,
    /// Of the storage version; `None` for custom resources.
    pub schema: Option<TypeRef>,
    /// How custom resources get from one version to another.
    pub conversion: Option<Conversion>,
    /// Some objects may be stored in another version.
    pub mixed: bool,
    pub cache: Arc<ResourceCache>,
}

/// Field selector names and where their values are, for one version of a resource.
#[derive(Debug, Clone, Default)]
pub struct FieldNames {
    pub sources: Vec<(Name, FieldSource)>,
}

impl FieldNames {
    pub fn source(&self, name: &str) -> Option<FieldSource> {
        self.sources.iter().find(|(known, _)| known == name).map(|(_, source)| *source)
    }
}

/// A subresource of a stored resource.
pub struct Subresource {
    pub kind: Name,
    pub group: Name,
    pub version: Name,
    pub verbs: Vec<Name>,
    pub serving: SubresourceServing,
}

#[derive(Clone)]
pub enum SubresourceServing {
    /// The object's status.
    Status,
    /// `autoscaling/v1 Scale`, kept at these paths of the object.
    Scale(Arc<ScalePaths>),
    /// The object, written by the rules of [`Strategy::subresource`].
    Object,
    /// An object of another kind is posted and answered.
    Create(Arc<dyn CreateSubresource>),
    /// The request is handed over whole: logs, exec, proxies.
    Connect(Arc<dyn Connect>),
}

/// JSON paths with dots.
#[derive(Debug, Clone)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    /// Empty when the kind has no selector.
    pub selector: String,
}

/// A resource that is asked and keeps nothing.
#[async_trait]
pub trait Answer: Send + Sync + 'static {
    /// Answers the posted object with what goes back, which has its kind and apiVersion set.
    async fn answer(&self, cx: &RequestContext, object: Value) -> Result<Value, Status>;
}

/// A resource whose objects are made when they are asked for.
#[async_trait]
pub trait Computed: Send + Sync + 'static {
    /// The objects of the request's namespace (of all, if it has none), without kind and apiVersion; only the named
    /// one where a name is given. Selectors are the caller's business.
    async fn compute(&self, cx: &RequestContext, name: Option<&str>) -> Result<Vec<Value>, Status>;
}

/// A posted subresource: bindings, evictions, tokens.
#[async_trait]
pub trait CreateSubresource: Send + Sync + 'static {
    /// `name` is the parent's. The object has passed decoding, defaulting and mutating admission.
    async fn create(&self, cx: &RequestContext, name: &str, object: Value) -> Result<Value, Status>;
}

/// A subresource with a protocol of its own. Authorization and admission (CONNECT) have been passed.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    async fn connect(&self, cx: &RequestContext, request: Request<Body>) -> Result<Response<Body>, Status>;
}

impl Resource {
    pub fn stored(&self) -> Option<&Arc<Storage>> {
        match &self.serving {
            Serving::Stored(storage) => Some(storage),
            Serving::Answered(_) | Serving::Computed(_) => None,
        }
    }

    /// `apps/v1` or `v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

impl Storage {
    /// The key of an object in the store.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        let prefix = self.cache.prefix();
        if self.namespaced { format!("{prefix}{namespace}/{name}") } else { format!("{prefix}{name}") }
    }

    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// `deployments.apps`, `pods`
    pub fn full_name(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_string()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// One version of a group, in the order discovery shows its resources.
#[derive(Clone, Default)]
pub struct Version {
    pub name: Name,
    pub resources: BTreeMap<Name, Arc<Resource>>,
}

/// One group; the most preferred version first.
#[derive(Clone, Default)]
pub struct Group {
    pub name: Name,
    pub versions: Vec<Version>,
}

/// Everything that is served. Immutable: a change makes a new one.
#[derive(Clone, Default)]
pub struct Catalogue {
    /// In discovery's order.
    pub groups: Vec<Group>,
    by_name: HashMap<Name, usize>,
}

impl Catalogue {
    pub fn new(groups: Vec<Group>) -> Self {
        let by_name = groups.iter().enumerate().map(|(at, group)| (group.name.clone(), at)).collect();
        Self { groups, by_name }
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.by_name.get(name).map(|at| &self.groups[*at])
    }

    pub fn version(&self, group: &str, version: &str) -> Option<&Version> {
        self.group(group)?.versions.iter().find(|known| known.name == version)
    }

    pub fn resource(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.version(group, version)?.resources.get(resource)
    }

    /// The resource in the version its group prefers.
    pub fn preferred(&self, group: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.group(group)?.versions.iter().find_map(|version| version.resources.get(resource))
    }

    pub fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.iter().flat_map(|group| &group.versions).flat_map(|version| version.resources.values())
    }
}
