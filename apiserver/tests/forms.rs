//! The forms answers come in: tables, partial metadata, YAML, protobuf, discovery, OpenAPI; and server-side apply.

use axum::body::Body;
use http::Method;
use knarr_testkit::TestServer;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": "v"}})
}

async fn get_as(server: &TestServer, path: &str, accept: &str) -> knarr_testkit::Answer {
    server.send(Method::GET, path, &[("accept", accept)], Body::empty()).await
}

#[tokio::test]
async fn lists_and_objects_are_shown_as_tables() {
    let server = TestServer::start().await;
    server.post(MAPS, &map("a")).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for path in [MAPS.to_owned(), format!("{MAPS}/a")] {
        let table = get_as(&server, &path, accept).await.json();
        assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
        assert_eq!(table["columnDefinitions"][1]["name"], "Data");
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let watch = get_as(&server, &format!("{MAPS}?watch=1&timeoutSeconds=1"), accept).await;
    let event: Value = serde_json::from_slice(watch.body.split(|b| *b == b'\n').next().unwrap()).unwrap();
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
}

#[tokio::test]
async fn metadata_is_shown_alone() {
    let server = TestServer::start().await;
    server.post(MAPS, &map("a")).await;
    let list = get_as(&server, MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")
        .await
        .json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    assert!(list["items"][0].get("data").is_none());
}

#[tokio::test]
async fn objects_travel_as_protobuf_and_yaml_both_ways() {
    let server = TestServer::start().await;
    let path = format!("{MAPS}/a");
    // An object that could be stored and is not: it has no resourceVersion, and may be sent.
    let draft = async |format: &str| {
        let url = format!("{MAPS}?dryRun=All");
        server.send(Method::POST, &url, &[("accept", format)], map("a").to_string()).await
    };
    let protobuf = draft("application/vnd.kubernetes.protobuf").await;
    assert_eq!(protobuf.headers["content-type"], "application/vnd.kubernetes.protobuf");
    assert!(protobuf.body.starts_with(b"k8s\0"));
    let headers = [("content-type", "application/vnd.kubernetes.protobuf")];
    let made = server.send(Method::POST, MAPS, &headers, protobuf.body).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.json()["data"]["k"], "v");
    let list = get_as(&server, MAPS, "application/vnd.kubernetes.protobuf").await;
    assert!(list.body.starts_with(b"k8s\0"));
    server.delete(&path).await;
    let yaml = draft("application/yaml").await;
    assert!(std::str::from_utf8(&yaml.body).unwrap().contains("kind: ConfigMap"));
    let made = server.send(Method::POST, MAPS, &[("content-type", "application/yaml")], yaml.body).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
}

#[tokio::test]
async fn a_large_list_is_compressed_for_those_who_accept_it() {
    let server = TestServer::start().await;
    let mut big = map("a");
    big["data"]["k"] = "x".repeat(300_000).into();
    server.post(MAPS, &big).await;
    let plain = server.get(MAPS).await;
    let small = server.send(Method::GET, MAPS, &[("accept-encoding", "gzip")], Body::empty()).await;
    assert_eq!(small.headers["content-encoding"], "gzip");
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&small.body[..]), &mut text).unwrap();
    assert!(text == plain.body, "the compressed list is not the plain one");
}

#[tokio::test]
async fn discovery_tells_what_is_served() {
    let server = TestServer::start().await;
    assert_eq!(server.get("/api").await.json()["versions"], json!(["v1"]));
    let groups = server.get("/apis").await.json();
    assert_eq!(groups["groups"][0]["name"], "apiregistration.k8s.io");
    let apps = server.get("/apis/apps/v1").await.json();
    let names: Vec<&str> =
        apps["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"deployments") && names.contains(&"deployments/scale"), "{names:?}");
    assert_eq!(server.get("/apis/nothing").await.status, 404);
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all = get_as(&server, "/apis", accept).await;
    assert_eq!(all.json()["kind"], "APIGroupDiscoveryList");
    let tag = all.headers["etag"].to_str().unwrap().to_owned();
    let again = server
        .send(Method::GET, "/apis", &[("accept", accept), ("if-none-match", &tag)], Body::empty())
        .await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert!(
        server.get("/version").await.json()["gitVersion"].as_str().unwrap().starts_with("v1.37.0+knarr.")
    );
}

#[tokio::test]
async fn openapi_documents_are_indexed_by_their_hash() {
    let server = TestServer::start().await;
    let index = server.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = server.get(url).await;
    assert_eq!(document.status, 200);
    assert!(document.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert!(document.json()["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    assert_eq!(server.get("/openapi/v3/apis/apps/v1?hash=old").await.status, 301);
    assert!(server.get("/openapi/v2").await.json()["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
}

#[tokio::test]
async fn applying_owns_fields_and_tells_of_conflicts() {
    let server = TestServer::start().await;
    let apply = async |manager: &str, force: &str, value: &str| {
        let path = format!("{MAPS}/a?fieldManager={manager}{force}");
        let body =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": value}});
        server
            .send(Method::PATCH, &path, &[("content-type", "application/apply-patch+yaml")], body.to_string())
            .await
    };
    let made = apply("one", "", "1").await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let entry = &made.json()["metadata"]["managedFields"][0];
    assert_eq!((&entry["manager"], &entry["operation"]), (&json!("one"), &json!("Apply")));
    let conflict = apply("two", "", "2").await;
    assert_eq!(conflict.status, 409, "{:?}", conflict.body);
    assert_eq!(conflict.json()["details"]["causes"][0]["field"], ".data.k");
    assert_eq!(apply("two", "&force=true", "2").await.status, 200);
    assert_eq!(server.get(&format!("{MAPS}/a")).await.json()["data"]["k"], "2");
    let nobody = server
        .send(Method::PATCH, &format!("{MAPS}/a"), &[("content-type", "application/apply-patch+yaml")], "{}")
        .await;
    assert_eq!(nobody.status, 422, "{:?}", nobody.body);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let server = TestServer::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(server.post(pods, &pod).await.status, 201);
    let binding = json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let path = format!("{pods}/p/binding");
    let nominated = json!({"status": {"nominatedNodeName": "n"}});
    let nominated = server.patch(&format!("{pods}/p/status"), "merge", &nominated).await.json();
    assert_eq!(nominated["status"]["nominatedNodeName"], "n", "{nominated}");
    let bound = server.post(&path, &binding).await;
    assert_eq!(bound.status, 201, "{:?}", bound.body);
    let pod = server.get(&format!("{pods}/p")).await.json();
    assert_eq!(pod["spec"]["nodeName"], "n");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(pod["status"]["nominatedNodeName"], json!(null), "the nomination is over");
    let again = server.post(&path, &binding).await;
    assert_eq!(again.status, 409);
    assert_eq!(
        again.json()["message"],
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\""
    );
}

#[tokio::test]
async fn discovery_documents_have_a_protobuf_form_and_the_version_has_none() {
    let server = TestServer::start().await;
    let accept = "application/vnd.kubernetes.protobuf,application/json";
    for path in ["/api", "/apis", "/apis/apps", "/apis/apps/v1"] {
        let answer = get_as(&server, path, accept).await;
        assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf", "{path}");
        assert!(answer.body.starts_with(b"k8s\0"), "{path}");
    }
    let version = get_as(&server, "/version", accept).await;
    assert_eq!((version.status.as_u16(), version.json()["major"].as_str()), (200, Some("1")));
}

#[tokio::test]
async fn events_are_found_by_who_reports_them() {
    let server = TestServer::start().await;
    let event = |name: &str, more: Value| {
        let mut event = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": name},
            "involvedObject": {"namespace": "default"}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let events = "/api/v1/namespaces/default/events";
    let new = json!({"reportingComponent": "newer", "reportingInstance": "i", "action": "a", "reason": "r"});
    for object in [event("old", json!({"source": {"component": "older"}})), event("new", new)] {
        let made = server.post(events, &object).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
    }
    let found = async |selector: &str| {
        let list = server.get(&format!("{events}?fieldSelector={selector}")).await.json();
        let items = list["items"].as_array().unwrap_or(&Vec::new()).clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found("source%3Dolder").await, ["old"]);
    assert_eq!(found("source%3Dnewer").await, ["new"]);
    assert_eq!(found("reportingComponent%3Dnewer").await, ["new"]);
}

#[tokio::test]
async fn keys_given_twice_in_an_applied_text_are_refused_or_warned_of() {
    let server = TestServer::start().await;
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: twice}\ndata:\n  a: one\n  a: two\n";
    let apply = async |validation: &str| {
        let path = format!("{MAPS}/twice?fieldManager=m&fieldValidation={validation}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        server.send(Method::PATCH, &path, &headers, text.to_owned()).await
    };
    let refused = apply("Strict").await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.json()["message"],
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \"a\" already set in map"
    );
    let warned = apply("Warn").await;
    assert_eq!(warned.status, 201);
    assert!(warned.headers["warning"].to_str().unwrap().contains("already set in map"), "{warned:?}");
    assert_eq!(apply("Ignore").await.status, 200);
}
