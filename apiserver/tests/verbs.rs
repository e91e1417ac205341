//! The verbs, each over the whole server: filters, registry, store and watch cache.

mod operations;

use futures::{StreamExt, TryStreamExt};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use knarr_testkit::TestServer;
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "labels": {"app": name}}, "data": {"k": "v"}})
}

fn deployment(name: &str) -> Value {
    json!({
        "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"replicas": 7},
    })
}

#[tokio::test]
async fn an_object_is_created_read_updated_and_deleted() {
    let server = TestServer::start().await;
    let made = server.post(MAPS, &map("a")).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let made = made.json();
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].as_str().is_some_and(|uid| uid.len() == 36), "{made}");
    assert!(made["metadata"]["creationTimestamp"].is_string());
    assert!(made["metadata"]["resourceVersion"].is_string());

    let path = format!("{MAPS}/a");
    let read = server.get(&path).await;
    assert_eq!((read.status.as_u16(), read.json()), (200, made.clone()));

    let mut changed = made.clone();
    changed["data"]["k"] = "w".into();
    let updated = server.put(&path, &changed).await;
    assert_eq!(updated.status, 200, "{:?}", updated.body);
    assert_eq!(updated.json()["data"]["k"], "w");
    let stale = server.put(&path, &changed).await;
    assert_eq!(stale.status, 409);
    assert_eq!(
        stale.json()["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let again = server.post(MAPS, &map("a")).await;
    assert_eq!((again.status.as_u16(), &again.json()["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(again.json()["message"], "configmaps \"a\" already exists");

    let deleted = server.delete(&path).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.json()["details"]["kind"], "configmaps");
    assert_eq!(deleted.json()["status"], "Success");
    let gone = server.get(&path).await;
    assert_eq!(
        (gone.status.as_u16(), gone.json()["message"].as_str()),
        (404, Some("configmaps \"a\" not found"))
    );
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let server = TestServer::start().await;
    let made = server.post(MAPS, &map("a")).await.json();
    let same = server.put(&format!("{MAPS}/a"), &made).await.json();
    assert_eq!(same, made);
}

#[tokio::test]
async fn lists_select_by_labels_and_fields_and_come_in_pages() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        assert_eq!(server.post(MAPS, &map(name)).await.status, 201);
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = server.get("/api/v1/configmaps").await.json();
    assert_eq!((all["kind"].as_str(), names(&all).len()), (Some("ConfigMapList"), 5));
    assert!(all["items"][0].get("kind").is_none());
    assert_eq!(
        names(&server.get(&format!("{MAPS}?labelSelector=app%20in%20(b,c)")).await.json()),
        ["b", "c"]
    );
    assert_eq!(names(&server.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dd")).await.json()), ["d"]);
    let unknown = server.get(&format!("{MAPS}?fieldSelector=spec.x%3Dd")).await;
    assert_eq!(unknown.status, 400);

    let first = server.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete(&format!("{MAPS}/c")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=2&continue={token}")).await.json();
    // The list is as of its first page.
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = server.get(&format!("{MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(names(&last), ["e"]);
    assert!(last["metadata"].get("continue").is_none());
}

#[tokio::test]
async fn a_watch_shows_what_enters_changes_and_leaves_its_selection() {
    let server = TestServer::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    let begin = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("show=yes");
    let mut events = maps.watch(&params, &begin).await.unwrap().boxed();
    server.post(MAPS, &map("a")).await;
    let show = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"show": value}}}));
    for value in ["yes", "yes", "no"] {
        maps.patch("a", &PatchParams::default(), &show(value)).await.unwrap();
    }
    maps.patch("a", &PatchParams::default(), &show("yes")).await.unwrap();
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "w"}}))).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(_) => "modified",
            WatchEvent::Deleted(_) => "deleted",
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["added", "deleted", "added", "modified", "deleted"]);
}

#[tokio::test]
async fn a_watch_may_begin_with_what_is_there_and_says_when_that_is_all() {
    let server = TestServer::start().await;
    server.post(MAPS, &map("a")).await;
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let body = server.get(&path).await.body;
    let events: Vec<Value> = body
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(
        (events[0]["type"].as_str(), events[0]["object"]["metadata"]["name"].as_str()),
        (Some("ADDED"), Some("a"))
    );
    assert_eq!(events[1]["type"], "BOOKMARK");
    assert_eq!(events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(events[1]["object"]["kind"], "ConfigMap");
}

#[tokio::test]
async fn status_and_spec_are_written_apart_and_generation_counts_the_spec() {
    let server = TestServer::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made = server.post(path, &deployment("web")).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let made = made.json();
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["status"].get("replicas").is_none(), "{made}");
    let one = format!("{path}/web");
    let status = server
        .patch(
            &format!("{one}/status"),
            "merge",
            &json!({"spec": {"replicas": 9}, "status": {"replicas": 2}}),
        )
        .await;
    assert_eq!(status.status, 200, "{:?}", status.body);
    let status = status.json();
    assert_eq!((&status["status"]["replicas"], &status["spec"]["replicas"]), (&json!(2), &json!(2)));
    assert_eq!(status["metadata"]["generation"], 1);
    let spec = server
        .patch(&one, "strategic-merge", &json!({"spec": {"paused": true}, "status": {"replicas": 5}}))
        .await;
    assert_eq!(spec.status, 200, "{:?}", spec.body);
    let spec = spec.json();
    assert_eq!((&spec["status"]["replicas"], &spec["metadata"]["generation"]), (&json!(2), &json!(2)));
    let scaled = server.patch(&format!("{one}/scale"), "merge", &json!({"spec": {"replicas": 4}})).await;
    assert_eq!(scaled.status, 200, "{:?}", scaled.body);
    let scaled = scaled.json();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(4)));
    assert_eq!(scaled["status"]["selector"], "app=web");
    assert_eq!(server.get(&one).await.json()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn generated_names_are_new_ones() {
    let server = TestServer::start().await;
    let mut object = map("x");
    object["metadata"] = json!({"generateName": "job-"});
    let names: Vec<String> = futures::future::join_all((0..20).map(|_| server.post(MAPS, &object)))
        .await
        .iter()
        .map(|answer| answer.json()["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 20, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("job-") && name.len() == 9));
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_is_gone() {
    let server = TestServer::start().await;
    let mut object = map("a");
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    server.post(MAPS, &object).await;
    let path = format!("{MAPS}/a");
    let marked = server.delete(&path).await;
    assert_eq!(marked.status, 200);
    assert!(marked.json()["metadata"]["deletionTimestamp"].is_string());
    let more = server
        .patch(&path, "merge", &json!({"metadata": {"finalizers": ["example.com/wait", "example.com/b"]}}))
        .await;
    assert_eq!(more.status, 422, "{:?}", more.body);
    let last = server.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(last.status, 200);
    assert_eq!(server.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_pod_on_a_node_has_time_to_end_and_force_ends_it() {
    let server = TestServer::start().await;
    let pods: Api<Pod> = Api::namespaced(server.client(), "default");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 30}
    }))
    .unwrap();
    let made = pods.create(&PostParams::default(), &pod).await.unwrap();
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
    let marked = pods.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test]
async fn a_namespace_ends_when_its_finalizer_is_taken_off() {
    let server = TestServer::start().await;
    let namespaces: Api<Namespace> = Api::all(server.client());
    let namespace = Namespace {
        metadata: ObjectMeta { name: Some("x".into()), ..Default::default() },
        ..Default::default()
    };
    let made = namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    assert_eq!(made.metadata.labels.unwrap()["kubernetes.io/metadata.name"], "x");
    let marked = namespaces.delete("x", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(marked.status.unwrap().phase.as_deref(), Some("Terminating"));
    let mut object = server.get("/api/v1/namespaces/x").await.json();
    object["spec"]["finalizers"] = json!([]);
    let done = server.put("/api/v1/namespaces/x/finalize", &object).await;
    assert_eq!(done.status, 200, "{:?}", done.body);
    assert_eq!(server.get("/api/v1/namespaces/x").await.status, 404);
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own_and_give_them_back() {
    let server = TestServer::start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, spec: Value| json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let made = server
        .post(path, &service("a", json!({"type": "NodePort", "ports": ports, "clusterIP": "10.96.7.7"})))
        .await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let made = made.json();
    assert_eq!(made["spec"]["clusterIPs"], json!(["10.96.7.7"]));
    assert_eq!(made["spec"]["ports"][0]["targetPort"], 80);
    let port = made["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port));
    let taken = server.post(path, &service("b", json!({"ports": ports, "clusterIP": "10.96.7.7"}))).await;
    assert_eq!(taken.status, 422);
    let message = taken.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.ends_with("failed to allocate IP 10.96.7.7: provided IP is already allocated"),
        "{message}"
    );
    let mut plain = made.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    plain["spec"]["ports"][0].as_object_mut().unwrap().remove("nodePort");
    assert_eq!(server.put(&format!("{path}/a"), &plain).await.status, 200);
    let other = server
        .post(path, &service("c", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})))
        .await;
    assert_eq!(other.status, 201, "{:?}", other.body);
    server.delete(&format!("{path}/a")).await;
    assert_eq!(
        server.post(path, &service("b", json!({"ports": ports, "clusterIP": "10.96.7.7"}))).await.status,
        201
    );
    let mut by_name = server.get(&format!("{path}/b")).await.json();
    by_name["spec"]["type"] = "ExternalName".into();
    by_name["spec"]["externalName"] = "example.org".into();
    let renamed = server.put(&format!("{path}/b"), &by_name).await;
    assert_eq!(renamed.status, 200, "{:?}", renamed.body);
    let spec = renamed.json()["spec"].clone();
    assert_eq!((spec.get("clusterIP"), spec.get("clusterIPs")), (None, None), "{spec}");
    assert_eq!(
        server.post(path, &service("d", json!({"ports": ports, "clusterIP": "10.96.7.7"}))).await.status,
        201,
        "the address is free again"
    );
    let headless =
        server.post(path, &service("h", json!({"ports": ports, "clusterIP": "None"}))).await.json();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn a_dry_run_answers_and_changes_nothing() {
    let server = TestServer::start().await;
    let made = server.post(&format!("{MAPS}?dryRun=All"), &map("a")).await;
    assert_eq!(made.status, 201);
    assert_eq!(server.get(&format!("{MAPS}/a")).await.status, 404);
    server.post(MAPS, &map("a")).await;
    assert_eq!(server.delete(&format!("{MAPS}/a?dryRun=All")).await.status, 200);
    assert_eq!(server.get(&format!("{MAPS}/a")).await.status, 200);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c"] {
        server.post(MAPS, &map(name)).await;
    }
    let deleted = server.delete(&format!("{MAPS}?labelSelector=app!%3Db")).await;
    assert_eq!(deleted.status, 200, "{:?}", deleted.body);
    let left = server.get(MAPS).await.json();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn bad_requests_are_told_apart_as_upstream_does() {
    let server = TestServer::start().await;
    let cases: [(Method, &str, &str, &str, u16); 8] = [
        (Method::POST, MAPS, "application/json", "{", 400),
        (Method::POST, MAPS, "text/plain", "{}", 415),
        (Method::GET, "/api/v1/namespaces/default/nothing", "", "", 404),
        (Method::GET, "/api/v1/namespaces/default/pods/x/nothing", "", "", 404),
        (Method::PUT, MAPS, "application/json", "{}", 405),
        (Method::PATCH, "/api/v1/namespaces/default/configmaps/a", "text/plain", "{}", 415),
        (Method::GET, "/api/v1/namespaces/default/configmaps?labelSelector=%3D%3D%3D", "", "", 400),
        (Method::GET, "/api/v1/namespaces/default/configmaps?limit=x", "", "", 400),
    ];
    for (method, path, content_type, body, code) in cases {
        let answer =
            server.send(method.clone(), path, &[("content-type", content_type)], body.to_owned()).await;
        assert_eq!(answer.status.as_u16(), code, "{method} {path}: {:?}", answer.body);
        assert_eq!(answer.json()["kind"], "Status", "{method} {path}");
    }
    let stored = server.post(MAPS, &map("b")).await.json();
    server.delete(&format!("{MAPS}/b")).await;
    let again = server.post(MAPS, &stored).await;
    assert_eq!(again.status, 500);
    assert_eq!(again.json()["message"], "resourceVersion should not be set on objects to be created");
    assert_eq!(server.post("/api/v1/configmaps", &map("b")).await.status, 405);
    assert_eq!(server.delete("/api/v1/configmaps").await.status, 405);
    let metrics = server.get("/metrics").await.body;
    let metrics = std::str::from_utf8(&metrics).unwrap();
    assert!(metrics.contains("apiserver_storage_objects{resource=\"configmaps\"} 0"), "{metrics}");
    assert!(metrics.contains("apiserver_request_total{"), "{metrics}");
    let big = format!("{{\"data\":{{\"k\":\"{}\"}}}}", "x".repeat(3 * 1024 * 1024));
    assert_eq!(server.send(Method::POST, MAPS, &[], big).await.status, 413);
    let name = server.post(MAPS, &map("Not_A_Name")).await;
    assert_eq!(name.status, 422);
    assert_eq!(name.json()["details"]["causes"][0]["field"], "metadata.name");
    let other =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "other"}});
    assert_eq!(server.post(MAPS, &other).await.status, 400);
    let unknown = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "dat": {}});
    let strict = server.post(&format!("{MAPS}?fieldValidation=Strict"), &unknown).await;
    assert_eq!(strict.status, 400);
    assert!(
        strict.json()["message"].as_str().unwrap().ends_with("strict decoding error: unknown field \"dat\"")
    );
    let warned = server.post(MAPS, &unknown).await;
    assert_eq!(warned.status, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"dat\\\"\"");
}
