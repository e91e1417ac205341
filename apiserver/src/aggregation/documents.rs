//! What a remote says of itself: its resources, and where its OpenAPI documents are.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Aggregator, Remote};
use crate::user::{MASTERS_GROUP, UserInfo};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Read after each check that passed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Documents {
    /// As in `APIGroupDiscoveryList`.
    pub resources: Value,
    /// The path under which the group version's OpenAPI v3 document is served, with its hash.
    pub openapi_v3: Option<String>,
    /// The whole OpenAPI v2 document.
    pub openapi_v2: Option<Bytes>,
}

fn aggregator() -> UserInfo {
    UserInfo { name: "system:aggregator".into(), groups: vec![MASTERS_GROUP.into()], ..UserInfo::default() }
}

impl Aggregator {
    /// Asks the remote for its documents. What it does not have stays as it was known.
    pub(super) async fn read_documents(&self, remote: &Remote) {
        let known = remote.documents();
        let mut documents = known.as_deref().cloned().unwrap_or_default();
        match self.resources(remote).await {
            Ok(resources) => documents.resources = resources,
            Err(why) => tracing::warn!(api_service = remote.name, why, "its discovery cannot be read"),
        }
        let (path, user) = (remote.path(), aggregator());
        if let Ok(index) = self.json(remote, "/openapi/v3", "application/json", &user).await {
            let at = &index["paths"][path.trim_start_matches('/')]["serverRelativeURL"];
            documents.openapi_v3 =
                at.as_str().filter(|url| url.starts_with("/openapi/v3/")).map(str::to_owned);
        }
        if let Ok((status, body)) = self.ask(remote, "/openapi/v2", "application/json", &user).await {
            documents.openapi_v2 = status.is_success().then_some(body);
        }
        if known.as_deref() != Some(&documents) {
            remote.set_documents(documents);
        }
    }

    async fn json(
        &self,
        remote: &Remote,
        path: &str,
        accept: &'static str,
        user: &UserInfo,
    ) -> Result<Value, String> {
        let (status, body) = self.ask(remote, path, accept, user).await?;
        if !status.is_success() {
            return Err(format!("{path} was answered with {status}"));
        }
        serde_json::from_slice(&body).map_err(|error| format!("{path}: {error}"))
    }

    async fn resources(&self, remote: &Remote) -> Result<Value, String> {
        let user = aggregator();
        if let Ok(all) = self.json(remote, "/apis", AGGREGATED, &user).await
            && let Some(found) = of_aggregated(&all, &remote.group, &remote.version)
        {
            return Ok(found);
        }
        let list = self.json(remote, &remote.path(), "application/json", &user).await?;
        Ok(of_legacy(&list, &remote.group, &remote.version))
    }
}

fn of_aggregated(list: &Value, group: &str, version: &str) -> Option<Value> {
    let groups = list["items"].as_array().filter(|_| list["kind"] == "APIGroupDiscoveryList")?;
    let found = groups.iter().find(|known| known["metadata"]["name"] == group)?;
    let version = found["versions"].as_array()?.iter().find(|known| known["version"] == version)?;
    Some(version["resources"].clone())
}

/// From an `APIResourceList`, where subresources stand beside their resources.
fn of_legacy(list: &Value, group: &str, version: &str) -> Value {
    let all = || list["resources"].as_array().into_iter().flatten();
    let kind = |entry: &Value| {
        let text = |field: &str, default: &str| entry[field].as_str().unwrap_or(default).to_owned();
        json!({"group": text("group", group), "version": text("version", version), "kind": entry["kind"]})
    };
    let mut resources = Vec::new();
    for entry in all().filter(|entry| entry["name"].as_str().is_some_and(|name| !name.contains('/'))) {
        let name = entry["name"].as_str().unwrap_or_default();
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({"resource": name, "responseKind": kind(entry), "scope": scope,
            "singularResource": entry["singularName"], "verbs": entry["verbs"]});
        for field in ["shortNames", "categories"] {
            if entry[field].is_array() {
                resource[field] = entry[field].clone();
            }
        }
        let subresources: Vec<Value> = all()
            .filter_map(|sub| {
                let (of, subresource) = sub["name"].as_str()?.split_once('/')?;
                (of == name).then(
                    || json!({"subresource": subresource, "responseKind": kind(sub), "verbs": sub["verbs"]}),
                )
            })
            .collect();
        if !subresources.is_empty() {
            resource["subresources"] = subresources.into();
        }
        resources.push(resource);
    }
    resources.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_form_of_discovery_tells_the_resources() {
        let legacy = json!({"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]}]});
        let kind = json!({"group": "wardle.example.com", "version": "v1", "kind": "Flunder"});
        let expected = json!([{"resource": "flunders", "responseKind": kind, "scope": "Namespaced",
            "singularResource": "flunder", "verbs": ["get"], "shortNames": ["fl"], "subresources": [
            {"subresource": "status", "responseKind": kind, "verbs": ["get"]},
            {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}, "verbs": ["get"]}]}]);
        assert_eq!(of_legacy(&legacy, "wardle.example.com", "v1"), expected);
        let aggregated = json!({"kind": "APIGroupDiscoveryList", "items": [{"metadata": {"name": "wardle.example.com"},
            "versions": [{"version": "v1", "resources": expected}]}]});
        assert_eq!(of_aggregated(&aggregated, "wardle.example.com", "v1"), Some(expected));
        assert_eq!(of_aggregated(&aggregated, "wardle.example.com", "v2"), None);
    }
}
