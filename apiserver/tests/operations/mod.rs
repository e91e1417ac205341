//! What upstream's conformance specs ask of every group ("should support ... API operations"), of every resource.

mod samples;

use http::Method;
use knarr_api::resources::{self, Resource};
use knarr_testkit::TestServer;
use serde_json::{Value, json};

use samples::sample;

const NAMESPACE: &str = "operations";
const LABEL: &str = "suite=operations";

/// Paths of one resource.
struct Paths {
    collection: String,
    /// Across all namespaces.
    everywhere: String,
}

impl Paths {
    fn of(resource: &Resource) -> Self {
        let root = match resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let everywhere = format!("{root}/{}", resource.name);
        let collection = match resource.namespaced {
            true => format!("{root}/namespaces/{NAMESPACE}/{}", resource.name),
            false => everywhere.clone(),
        };
        Self { collection, everywhere }
    }
}

/// Every resource that keeps objects and is served without being asked for.
fn stored() -> impl Iterator<Item = &'static Resource> {
    let all = resources::all().iter();
    all.filter(|resource| resource.enabled_by_default && !resource.is_virtual && !resource.is_aggregated)
}

fn named(resource: &Resource, number: usize) -> Value {
    let mut object = sample(resource, number);
    object["kind"] = resource.kind.into();
    object["apiVersion"] = match resource.group {
        "" => resource.version.into(),
        group => format!("{group}/{}", resource.version).into(),
    };
    let metadata = &mut object["metadata"];
    if metadata["name"].is_null() {
        metadata["name"] = format!("{}-{number}", resource.singular).into();
    }
    metadata["labels"]["suite"] = "operations".into();
    object
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_resource_supports_every_operation() {
    let server = TestServer::start().await;
    for namespace in [NAMESPACE, "default"] {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        assert_eq!(server.post("/api/v1/namespaces", &object).await.status, 201);
    }
    for resource in stored() {
        one_object(&server, resource).await;
        collection(&server, resource).await;
    }
}

async fn one_object(server: &TestServer, resource: &Resource) {
    let Paths { collection, everywhere } = Paths::of(resource);
    let what = format!("{}.{}", resource.name, resource.group);
    let made = server.post(&collection, &named(resource, 0)).await;
    assert_eq!(made.status, 201, "{what}: {}", made.json());
    let made = made.json();
    assert_eq!(made["kind"], resource.kind, "{what}");
    let name = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let path = format!("{collection}/{name}");
    assert_eq!(server.get(&path).await.json(), made, "{what}: get");
    for path in [&collection, &everywhere] {
        let list = server.get(&format!("{path}?labelSelector={LABEL}")).await.json();
        assert_eq!(list["kind"], format!("{}List", resource.kind), "{what}");
        assert_eq!(names(&list), [name.as_str()], "{what}: list {path}");
    }

    let patch = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = server.patch(&path, "merge", &patch).await;
    assert_eq!(patched.status, 200, "{what}: patch {}", patched.json());
    let mut patched = patched.json();
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true", "{what}");
    patched["metadata"]["annotations"]["updated"] = "true".into();
    let updated = server.put(&path, &patched).await;
    assert_eq!(updated.status, 200, "{what}: update {}", updated.json());
    assert_eq!(updated.json()["metadata"]["annotations"]["updated"], "true", "{what}");
    if resource.subresource("status").is_some() {
        status(server, &path, &what).await;
    }

    let revision = made["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let watched =
        format!("{collection}?watch=true&timeoutSeconds=1&labelSelector={LABEL}&resourceVersion={revision}");
    let events = server.get(&watched).await;
    let first = events.body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first: Value = serde_json::from_slice(first).unwrap_or_default();
    assert_eq!(
        (&first["type"], &first["object"]["metadata"]["name"]),
        (&json!("MODIFIED"), &json!(name)),
        "{what}"
    );

    // Some kinds orphan what they own when nothing is said, and wait for that; nothing here would do it.
    let deleted = server.delete(&format!("{path}?propagationPolicy=Background")).await;
    assert_eq!(deleted.status, 200, "{what}: delete {}", deleted.json());
    if resource.name != "namespaces" {
        let gone = eventually(async || server.get(&path).await.status == 404).await;
        assert!(gone, "{what}: after the delete");
    }
}

async fn status(server: &TestServer, path: &str, what: &str) {
    let path = format!("{path}/status");
    let read = server.get(&path).await;
    assert_eq!(read.status, 200, "{what}: {}", read.json());
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}});
    let patched = server.patch(&path, "merge", &patch).await;
    assert_eq!(patched.status, 200, "{what}: patch of the status {}", patched.json());
    let updated = server.put(&path, &patched.json()).await;
    assert_eq!(updated.status, 200, "{what}: update of the status {}", updated.json());
}

async fn collection(server: &TestServer, resource: &Resource) {
    if !resource.has_verb("deletecollection") {
        return;
    }
    let Paths { collection, .. } = Paths::of(resource);
    let what = format!("{}.{}", resource.name, resource.group);
    for number in 1..=2 {
        let made = server.post(&collection, &named(resource, number)).await;
        assert_eq!(made.status, 201, "{what}: {}", made.json());
    }
    let selected = format!("{collection}?labelSelector={LABEL}");
    let background = format!("{selected}&propagationPolicy=Background");
    let deleted = server.send(Method::DELETE, &background, &[], axum::body::Body::empty()).await;
    assert_eq!(deleted.status, 200, "{what}: deletecollection {}", deleted.json());
    let gone = eventually(async || names(&server.get(&selected).await.json()).is_empty()).await;
    assert!(gone, "{what}: after deletecollection");
}

/// Definitions of custom resources go when the server has seen that they have no objects.
async fn eventually<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) -> bool {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds().await {
        if std::time::Instant::now() > deadline {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}
