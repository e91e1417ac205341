//! What an autoscaler scales: anything with a `scale` subresource.

use std::sync::Arc;

use http::Request;
use k8s_openapi::api::autoscaling::v1::Scale;
use knarr_client::{
    Client,
    error::{is_conflict, message},
};
use tokio::sync::watch;

use crate::discovery::{ResourceInfo, Resources};

/// How often a write is tried again when the target changed meanwhile.
const ATTEMPTS: usize = 5;

/// Finds and resizes targets.
pub(super) struct Targets {
    pub(super) client: Client,
    pub(super) resources: watch::Receiver<Arc<Resources>>,
}

/// A target as it was found.
pub(super) struct Target {
    path: String,
    pub(super) scale: Scale,
}

impl Target {
    pub(super) fn replicas(&self) -> i32 {
        self.scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
    }

    /// The pods it says it has.
    pub(super) fn present(&self) -> i32 {
        self.scale.status.as_ref().map_or(0, |status| status.replicas)
    }

    pub(super) fn selector(&self) -> &str {
        self.scale.status.as_ref().and_then(|status| status.selector.as_deref()).unwrap_or_default()
    }
}

/// The group of an `apiVersion`; `None` if it is none.
fn group(api_version: &str) -> Option<&str> {
    let mut parts = api_version.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), None, None) => Some(""),
        (Some(group), Some(_), None) => Some(group),
        _ => None,
    }
}

impl Targets {
    /// The resources of a kind, whatever the version; the one its group prefers comes first.
    pub(super) fn resources_of(
        &self,
        api_version: &str,
        kind: &str,
    ) -> Result<Vec<Arc<ResourceInfo>>, String> {
        let group =
            group(api_version).ok_or_else(|| format!("unexpected GroupVersion string: {api_version}"))?;
        let known = self.resources.borrow().of_group_kind(group, kind);
        if known.is_empty() {
            let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
            return Err(format!("no matches for kind {kind:?} in group {group:?}"));
        }
        Ok(known)
    }

    pub(super) async fn find(
        &self,
        namespace: &str,
        api_version: &str,
        kind: &str,
        name: &str,
    ) -> Result<Target, String> {
        let mut first = None;
        for resource in self.resources_of(api_version, kind)? {
            let path = format!("{}/scale", resource.path(namespace, Some(name)));
            match self.get(&path).await {
                Ok(scale) => return Ok(Target { path, scale }),
                Err(error) => first = first.or(Some(message(&error))),
            }
        }
        Err(first.unwrap_or_else(|| "unrecognized resource".to_owned()))
    }

    async fn get(&self, path: &str) -> Result<Scale, kube::Error> {
        let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    async fn put(&self, path: &str, scale: &Scale) -> Result<Scale, kube::Error> {
        let body = serde_json::to_vec(scale).map_err(kube::Error::SerdeError)?;
        let request = Request::put(path).header("content-type", "application/json").body(body);
        self.client.request(request.map_err(kube::Error::HttpError)?).await
    }

    /// Asks for so many replicas, also when somebody else wrote in between.
    pub(super) async fn resize(&self, target: &Target, replicas: i32) -> Result<(), String> {
        let mut scale = target.scale.clone();
        let mut attempt = 1;
        loop {
            scale.spec.get_or_insert_default().replicas = Some(replicas);
            match self.put(&target.path, &scale).await {
                Ok(_) => return Ok(()),
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => {
                    scale = self.get(&target.path).await.map_err(|error| message(&error))?;
                    attempt += 1;
                }
                Err(error) => return Err(message(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_api_versions() {
        for (text, wanted) in [("v1", Some("")), ("apps/v1", Some("apps")), ("a/b/c", None)] {
            assert_eq!(group(text), wanted, "{text}");
        }
    }
}
