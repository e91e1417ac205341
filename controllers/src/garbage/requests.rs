//! What garbage collection asks of the server, for resources known only at run time.

use std::sync::Arc;

use http::{Method, Request, header::CONTENT_TYPE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knarr_client::{
    Client,
    error::is_not_found,
    object::{Cached, Lineage, Skeleton},
};
use serde_json::json;
use tokio::sync::watch;

use super::graph::Place;
use crate::{
    discovery::{ResourceInfo, Resources},
    error::{Error, Step},
};

#[derive(Clone)]
pub(super) struct Requests {
    pub(super) client: Client,
    pub(super) resources: watch::Receiver<Arc<Resources>>,
}

/// An object as it is at the server, and where.
pub(super) struct Live {
    pub(super) path: String,
    pub(super) object: Skeleton,
}

impl Live {
    pub(super) fn lineage(&self) -> Lineage<'_> {
        self.object.lineage().expect("a skeleton keeps its lineage")
    }

    pub(super) fn uid(&self) -> &str {
        self.object.uid()
    }
}

/// How the server is to treat the dependents of what is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl Propagation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

impl Requests {
    /// The resource a reference speaks of; an error if the server has none, as while its CRD is away.
    pub(super) fn resource(&self, api_version: &str, kind: &str) -> Result<Arc<ResourceInfo>, Error> {
        let resources = self.resources.borrow();
        let found = resources.of_kind(api_version, kind).cloned();
        found.ok_or_else(|| Error::Unusable(format!("no resource is known for {api_version}, Kind={kind}")))
    }

    pub(super) async fn find(&self, place: &Place) -> Result<Option<Live>, Error> {
        match place {
            Place::Seen { resource, namespace, name } => self.get(resource, namespace, name).await,
            Place::Referred { api_version, kind, namespace, name } => {
                let resource = self.resource(api_version, kind)?;
                self.get(&resource, namespace, name).await
            }
        }
    }

    pub(super) async fn get(
        &self,
        resource: &ResourceInfo,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Live>, Error> {
        let path = resource.path(namespace, Some(name));
        let request = build(Method::GET, &path, None, Vec::new())?;
        match self.client.request::<Skeleton>(request).await {
            Ok(object) => Ok(Some(Live { path, object })),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error).step("get", &path),
        }
    }

    /// Deletes exactly this state of the object; whether it was still there.
    pub(super) async fn delete(&self, live: &Live, propagation: Propagation) -> Result<bool, Error> {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": { "uid": live.uid(), "resourceVersion": live.object.resource_version() },
            "propagationPolicy": propagation.as_str(),
        });
        self.write(Method::DELETE, live, "application/json", options, "delete").await
    }

    /// Replaces the object's owner references, if it has not changed meanwhile.
    pub(super) async fn set_owners(&self, live: &Live, owners: &[&OwnerReference]) -> Result<bool, Error> {
        self.patch_metadata(live, "ownerReferences", json!(owners)).await
    }

    pub(super) async fn remove_finalizer(&self, live: &Live, finalizer: &str) -> Result<bool, Error> {
        let rest: Vec<_> = live.lineage().finalizers.iter().filter(|other| *other != finalizer).collect();
        if rest.len() == live.lineage().finalizers.len() {
            return Ok(true);
        }
        self.patch_metadata(live, "finalizers", json!(rest)).await
    }

    async fn patch_metadata(
        &self,
        live: &Live,
        field: &str,
        value: serde_json::Value,
    ) -> Result<bool, Error> {
        let mut metadata = json!({ "uid": live.uid(), "resourceVersion": live.object.resource_version() });
        metadata[field] = value;
        let patch = json!({ "metadata": metadata });
        self.write(Method::PATCH, live, "application/merge-patch+json", patch, "patch").await
    }

    async fn write(
        &self,
        method: Method,
        live: &Live,
        content: &str,
        body: serde_json::Value,
        step: &'static str,
    ) -> Result<bool, Error> {
        let request = build(method, &live.path, Some(content), body.to_string().into_bytes())?;
        match self.client.request_text(request).await {
            Ok(_) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(error).step(step, &live.path),
        }
    }
}

fn build(
    method: Method,
    path: &str,
    content: Option<&str>,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>, Error> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(content) = content {
        request = request.header(CONTENT_TYPE, content);
    }
    // A reference may hold anything, also what makes no path.
    request.body(body).map_err(|error| Error::Unusable(format!("cannot ask for {path:?}: {error}")))
}
