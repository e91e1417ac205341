//! What authentication, authorization and admission read of other objects. The registry implements it.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use knarr_api::schema::TypeRef;
use knarr_api::status::Status;
use serde_json::Value;

/// A resource without its version: every version shows the same object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resource<'a> {
    /// The API group, empty for the core group.
    pub group: &'a str,
    /// The lower-case plural (`pods`).
    pub plural: &'a str,
}

impl<'a> Resource<'a> {
    pub const fn new(group: &'a str, plural: &'a str) -> Self {
        Self { group, plural }
    }

    /// A resource of the core group.
    pub const fn core(plural: &'a str) -> Self {
        Self { group: "", plural }
    }
}

/// An object as it is stored, in the resource's preferred served version.
#[derive(Debug, Clone)]
pub struct Stored {
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// JSON with `metadata.resourceVersion` set.
    pub json: Bytes,
}

/// One step of a watch over a whole resource.
#[derive(Debug, Clone)]
pub enum Change {
    /// What is known is void: the complete present state follows as `Set`s, then `Synced`. Always the first item,
    /// and repeated whenever history was lost.
    Restart,
    /// The object is now this.
    Set(Stored),
    /// The object is gone; `json` is its last state.
    Removed(Stored),
    /// Everything that existed when the watch (re)started has been delivered.
    Synced,
}

/// One version of a resource.
#[derive(Debug, Clone)]
pub struct Described {
    pub plural: String,
    pub kind: String,
    pub namespaced: bool,
    /// What its objects look like.
    pub schema: Option<TypeRef>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading {resource} {name:?}: {cause}")]
    Unavailable { resource: String, name: String, cause: String },
}

/// Reads objects without authorization, for the server's own decisions.
///
/// `get`, `list` and `watch` come from the watch cache: they may trail the newest write by a moment, never block,
/// and answer from any thread. `get_live` is linearizable. A resource that is not served has no objects.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// The object, if there is one. `namespace` is empty for cluster-scoped resources.
    fn get(&self, resource: Resource<'_>, namespace: &str, name: &str) -> Option<Stored>;

    /// Every object of the resource, of one namespace or (`None`) of all.
    fn list(&self, resource: Resource<'_>, namespace: Option<&str>) -> Vec<Stored>;

    /// The object as the store has it now.
    async fn get_live(
        &self,
        resource: Resource<'_>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Stored>, Error>;

    /// Brings an object into the form its kind asks for, after something from outside changed it: defaults, and
    /// for custom resources only what their schema knows.
    ///
    /// # Errors
    /// Its metadata are not what metadata are.
    fn complete(&self, resource: Resource<'_>, object: &mut Value) -> Result<(), String>;

    /// The served versions of a resource, the preferred one first.
    fn versions(&self, resource: Resource<'_>) -> Vec<String>;

    /// What one version of a resource is; none if it is not served.
    fn described(&self, resource: Resource<'_>, version: &str) -> Option<Described>;

    /// The resource that serves a kind.
    fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Described>;

    /// An object of the resource in another of its versions.
    async fn convert(&self, resource: Resource<'_>, version: &str, object: Value) -> Result<Value, Status>;

    /// The resource's objects from now on. The stream ends only with the server.
    fn watch(&self, resource: Resource<'_>) -> BoxStream<'static, Change>;
}
