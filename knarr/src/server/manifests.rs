//! Objects that knarr itself brings, applied at every start.

use anyhow::Context;
use http::{Method, Request};
use knarr_client::{Client, error::is_already_exists};
use serde::Deserialize;
use serde_json::Value;

const NETWORK_ACCESS: &str = include_str!("../../../manifests/network-access.yaml");
const JOINING: &str = include_str!("../../../manifests/joining.yaml");
/// Made where they are missing, and the user's from then on.
const DEFAULTS: &str = include_str!("../../../manifests/local-storage.yaml");
const MANAGER: &str = "knarr";

/// Server-side applies every object, so that what others own of them stays.
pub async fn apply(client: &Client) -> anyhow::Result<()> {
    for document in documents() {
        apply_object(client, &Value::deserialize(document).context("a built-in manifest")?).await?;
    }
    for document in serde_yaml::Deserializer::from_str(DEFAULTS) {
        let object = Value::deserialize(document).context("a built-in manifest")?;
        let path = path(&object).context("a built-in manifest of an unknown kind")?;
        create(client, &object, &path).await.with_context(|| format!("creating {path}"))?;
    }
    Ok(())
}

/// Server-side applies one object.
pub async fn apply_object(client: &Client, object: &Value) -> anyhow::Result<()> {
    let path = path(object).context("a built-in manifest of an unknown kind")?;
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(format!("{path}?fieldManager={MANAGER}&force=true"))
        .header("content-type", "application/apply-patch+yaml")
        .body(object.to_string().into_bytes())?;
    client.request::<Value>(request).await.with_context(|| format!("applying {path}")).map(drop)
}

fn documents() -> impl Iterator<Item = serde_yaml::Deserializer<'static>> {
    [NETWORK_ACCESS, JOINING].into_iter().flat_map(serde_yaml::Deserializer::from_str)
}

async fn create(client: &Client, object: &Value, path: &str) -> anyhow::Result<()> {
    let collection = path.rsplit_once('/').map_or(path, |(collection, _)| collection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{collection}?fieldManager={MANAGER}"))
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())?;
    match client.request::<Value>(request).await {
        Err(error) if !is_already_exists(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn path(object: &Value) -> Option<String> {
    let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = knarr_api::resources::by_kind(group, version, kind)?;
    let name = object["metadata"]["name"].as_str()?;
    let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Some(format!("{root}/namespaces/{namespace}/{}/{name}", resource.name)),
        None => Some(format!("{root}/{}/{name}", resource.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_manifest_has_a_path() {
        let defaults = serde_yaml::Deserializer::from_str(DEFAULTS);
        let paths: Vec<String> = documents()
            .chain(defaults)
            .map(|document| path(&Value::deserialize(document).expect("YAML")).expect("a known kind"))
            .collect();
        assert_eq!(paths.len(), 10);
        assert_eq!(paths[9], "/apis/storage.k8s.io/v1/storageclasses/standard");
        assert_eq!(paths[0], "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:knarr:network");
    }
}
