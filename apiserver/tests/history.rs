//! What lists and watches promise about time: consistency, continuation, what is too old, what is never lost.

use std::sync::Arc;

use futures::StreamExt;
use knarr_storage::{Memory, Store};
use knarr_testkit::TestServer;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": "v"}})
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn events(body: &[u8]) -> Vec<Value> {
    body.split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

#[tokio::test]
async fn a_list_shows_every_write_acknowledged_before_it() {
    let server = Arc::new(TestServer::start().await);
    let writers = (0..8).map(|writer| {
        let server = server.clone();
        async move {
            for i in 0..25 {
                let name = format!("w{writer}-{i}");
                assert_eq!(server.post(MAPS, &map(&name)).await.status, 201);
                let seen = names(&server.get(MAPS).await.json());
                assert!(seen.contains(&name), "{name} is missing");
            }
        }
    });
    futures::future::join_all(writers).await;
    assert_eq!(names(&server.get(MAPS).await.json()).len(), 200);
}

#[tokio::test]
async fn a_list_whose_history_is_gone_can_be_continued_inconsistently() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c"] {
        server.post(MAPS, &map(name)).await;
    }
    let first = server.get(&format!("{MAPS}?limit=1")).await.json();
    server.post(MAPS, &map("d")).await;
    server.store().compact(server.store().revision().await.unwrap()).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = server.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.status.as_u16(), &expired.json()["reason"]), (410, &json!("Expired")));
    let token = expired.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let rest = server.get(&format!("{MAPS}?continue={token}")).await.json();
    assert_eq!(names(&rest), ["b", "c", "d"]);
}

#[tokio::test]
async fn a_watch_from_before_the_server_began_is_told_to_list_again() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let before = TestServer::on(store.clone()).await;
    let made = before.post(MAPS, &map("a")).await.json();
    let mut changed = made.clone();
    changed["data"]["k"] = "w".into();
    before.put(&format!("{MAPS}/a"), &changed).await;
    drop(before);
    let server = TestServer::on(store).await;
    assert_eq!(names(&server.get(MAPS).await.json()), ["a"]);
    let old = made["metadata"]["resourceVersion"].as_str().unwrap();
    let answer = server.get(&format!("{MAPS}?watch=1&resourceVersion={old}&timeoutSeconds=1")).await;
    let seen = events(&answer.body);
    assert_eq!((&seen[0]["type"], &seen[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn watches_from_every_revision_see_the_same_events_in_the_same_order() {
    let server = TestServer::start().await;
    let begin = server.get(MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for i in 0..20 {
        server.post(MAPS, &map(&format!("m{i}"))).await;
        if i % 3 == 0 {
            server.delete(&format!("{MAPS}/m{i}")).await;
        }
    }
    let all =
        events(&server.get(&format!("{MAPS}?watch=1&resourceVersion={begin}&timeoutSeconds=1")).await.body);
    assert_eq!(all.len(), 27);
    for at in [3, 11, 20] {
        let version = all[at]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
        let path = format!("{MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=1");
        assert_eq!(events(&server.get(&path).await.body), all[at + 1..]);
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off_and_others_are_not() {
    let server = TestServer::start().await;
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
        kube::Api::namespaced(server.client(), "default");
    let params = kube::api::WatchParams::default();
    let begin = server.get(MAPS).await.json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut slow = maps.watch(&params, &begin).await.unwrap().boxed();
    let storage =
        server.server().registry().catalogue().preferred("", "configmaps").unwrap().stored().unwrap().clone();
    assert_eq!(storage.cache.watchers(), 1);
    for i in 0..6000 {
        let key = format!("/registry/configmaps/default/m{i}");
        let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": format!("m{i}"), "namespace": "default"}});
        let put = server.store().put(
            &key,
            object.to_string().into(),
            knarr_storage::Expect::Absent,
            Default::default(),
        );
        put.await.unwrap();
    }
    let now = server.store().revision().await.unwrap().0;
    while server.server().registry().cache.wait_for(now).await.is_err() {}
    assert_eq!(storage.cache.watchers(), 0);
    let mut seen = 0;
    while let Some(Ok(_)) = slow.next().await {
        seen += 1;
    }
    assert!(seen < 6000, "{seen}");
}

#[tokio::test]
async fn autoscalers_are_shown_in_the_version_that_is_asked_for() {
    let server = TestServer::start().await;
    let path =
        |version: &str| format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers");
    let scaler = json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
    let made = server.post(&path("v1"), &scaler).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.json()["spec"]["targetCPUUtilizationPercentage"], 50);
    let newer = server.get(&format!("{}/h", path("v2"))).await.json();
    assert_eq!(newer["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
    let older = server.get(&path("v1")).await.json();
    assert_eq!(
        (&older["apiVersion"], &older["items"][0]["spec"]["targetCPUUtilizationPercentage"]),
        (&json!("autoscaling/v1"), &json!(50))
    );
}
