//! Making the node known, and taking over a Node object that is there already.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use knarr_client::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(7);

/// Creates the node, or brings the labels of the one that is there up to date; tries until it works.
pub async fn register(client: &kube::Client, wanted: &Node) -> Node {
    let mut delay = FIRST_RETRY;
    loop {
        match try_register(client, wanted).await {
            Ok(node) => return node,
            Err(error) => {
                let name = wanted.metadata.name.as_deref().unwrap_or_default();
                tracing::warn!(node = name, %error, "unable to register node with API server");
            }
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LAST_RETRY);
    }
}

async fn try_register(client: &kube::Client, wanted: &Node) -> kube::Result<Node> {
    let api: Api<Node> = Api::all(client.clone());
    let name = wanted.metadata.name.as_deref().unwrap_or_default();
    match api.create(&PostParams::default(), wanted).await {
        Ok(created) => Ok(created),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let existing = api.get(name).await?;
            let missing = |wanted: &Option<BTreeMap<String, String>>,
                           have: &Option<BTreeMap<String, String>>| {
                let empty = BTreeMap::new();
                let have = have.as_ref().unwrap_or(&empty);
                let differs = |(key, value): &(&String, &String)| have.get(*key) != Some(*value);
                wanted.iter().flatten().filter(differs).map(|(k, v)| (k.clone(), v.clone())).collect()
            };
            let labels: BTreeMap<String, String> =
                missing(&wanted.metadata.labels, &existing.metadata.labels);
            let annotations: BTreeMap<String, String> =
                missing(&wanted.metadata.annotations, &existing.metadata.annotations);
            if labels.is_empty() && annotations.is_empty() {
                return Ok(existing);
            }
            let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
            api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await
        }
        Err(error) => Err(error),
    }
}
