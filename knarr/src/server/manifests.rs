//! Objects that knarr itself brings, applied at every start.

use anyhow::Context;
use http::{Method, Request};
use knarr_client::Client;
use serde::Deserialize;
use serde_json::Value;

const NETWORK_ACCESS: &str = include_str!("../../../manifests/network-access.yaml");
const JOINING: &str = include_str!("../../../manifests/joining.yaml");
const MANAGER: &str = "knarr";

/// Server-side applies every object, so that what others own of them stays.
pub async fn apply(client: &Client) -> anyhow::Result<()> {
    for document in documents() {
        apply_object(client, &Value::deserialize(document).context("a built-in manifest")?).await?;
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
        let paths: Vec<String> = documents()
            .map(|document| path(&Value::deserialize(document).expect("YAML")).expect("a known kind"))
            .collect();
        assert_eq!(paths.len(), 9);
        assert_eq!(paths[0], "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:knarr:network");
    }
}
