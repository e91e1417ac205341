//! Pods of real containers, as root, against the real API server.

#[path = "support/driver.rs"]
mod driver;
#[path = "support/image.rs"]
mod image;
#[path = "support/node.rs"]
mod node;
#[path = "containers/storage.rs"]
mod storage;

use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::Condition;
use node::Node;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

fn is(test: impl Fn(&Pod) -> bool) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| pod.is_some_and(&test)
}

fn phase(wanted: &'static str) -> impl Condition<Pod> {
    is(move |pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some(wanted)))
}

fn ready() -> impl Condition<Pod> {
    is(|pod| {
        let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    })
}

async fn log(node: &Node, pod: &str) -> String {
    let (status, body) = node.get(&format!("/containerLogs/default/{pod}/main")).await;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_sees_its_volumes_and_environment_and_leaves_nothing() {
    let node = Node::new().await;
    let client = node.server.client();
    let mut settings =
        ConfigMap { data: Some([("key".into(), "value".into())].into()), ..ConfigMap::default() };
    settings.metadata.name = Some("settings".into());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.create(&PostParams::default(), &settings).await.expect("created");
    let mut secret = Secret {
        data: Some([("pw".into(), k8s_openapi::ByteString(b"hidden".to_vec()))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some("secret".into());
    let secrets: Api<Secret> = Api::namespaced(client, "default");
    secrets.create(&PostParams::default(), &secret).await.expect("created");
    let script = "echo $GREETING $WHO; cat /config/key; echo; cat /secret/pw; echo; cat /info/labels; echo; \
                  echo x > /scratch/file && cat /scratch/deep/file; echo done > /dev/termination-log; exit 3";
    let container = json!({
        "env": [
            {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "GREETING", "value": "hello $(WHO)"},
        ],
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret", "readOnly": true},
            {"name": "info", "mountPath": "/info"},
            {"name": "scratch", "mountPath": "/scratch", "subPath": "sub/dir"},
            {"name": "scratch", "mountPath": "/scratch/deep", "subPath": "sub/dir"},
        ],
    });
    let more = json!({
        "restartPolicy": "Never",
        "volumes": [
            {"name": "config", "configMap": {"name": "settings"}},
            {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
            {"name": "info", "downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            ]}},
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    });
    node.create("job", script, container, more).await;
    let pod = node.until("job", phase("Failed")).await.expect("there");
    assert_eq!(log(&node, "job").await, "hello job job\nvalue\nhidden\napp=\"job\"\nx\n");
    let main = &pod.status.expect("reported").container_statuses.expect("reported")[0];
    let ended = main.state.as_ref().and_then(|s| s.terminated.clone()).expect("ended");
    assert_eq!((ended.exit_code, ended.message.as_deref()), (3, Some("done\n")));
    node.pods().delete("job", &DeleteParams::default()).await.expect("deleted");
    node.until("job", |pod: Option<&Pod>| pod.is_none()).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_its_own_users_reads_its_volumes_and_leaves_nothing() {
    let node = Node::new().await;
    let mut secret = Secret {
        data: Some([("pw".into(), k8s_openapi::ByteString(b"hidden".to_vec()))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some("secret".into());
    let secrets: Api<Secret> = Api::namespaced(node.server.client(), "default");
    secrets.create(&PostParams::default(), &secret).await.expect("created");
    let script = "tr -s ' ' < /proc/self/uid_map; cat /secret/pw; echo; echo x > /scratch/f; stat -Lc %u /scratch/f \
                  /secret/pw /etc/hostname /etc/resolv.conf | uniq; echo done > /dev/termination-log; exit 3";
    let mounts = json!([
        {"name": "secret", "mountPath": "/secret"},
        {"name": "scratch", "mountPath": "/scratch", "subPath": "sub"},
    ]);
    let more = json!({
        "restartPolicy": "Never",
        "hostUsers": false,
        "hostNetwork": false,
        "volumes": [
            {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
            {"name": "scratch", "emptyDir": {"medium": "Memory"}},
        ],
    });
    node.create("job", script, json!({"volumeMounts": mounts}), more).await;
    let pod = node.until("job", phase("Failed")).await.expect("there");
    assert_eq!(log(&node, "job").await, " 0 65536 65536\nhidden\n0\n");
    let main = &pod.status.expect("reported").container_statuses.expect("reported")[0];
    let ended = main.state.as_ref().and_then(|s| s.terminated.as_ref()).expect("ended");
    assert_eq!((ended.exit_code, ended.message.as_deref()), (3, Some("done\n")));
    node.pods().delete("job", &DeleteParams::default()).await.expect("deleted");
    node.until("job", |pod: Option<&Pod>| pod.is_none()).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_config_map_follow_it() {
    let node = Node::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(node.server.client(), "default");
    let mut settings =
        ConfigMap { data: Some([("key".into(), "old".into())].into()), ..ConfigMap::default() };
    settings.metadata.name = Some("settings".into());
    maps.create(&PostParams::default(), &settings).await.expect("created");
    let container = json!({
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
        "readinessProbe": {"exec": {"command": ["grep", "new", "/config/key"]}, "periodSeconds": 1},
    });
    let more = json!({"volumes": [{"name": "config", "configMap": {"name": "settings"}}]});
    node.create("web", "trap 'exit 0' TERM; while :; do sleep 1; done", container, more).await;
    node.until("web", phase("Running")).await;
    let patch = json!({"data": {"key": "new"}});
    maps.patch("settings", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    node.until("web", ready()).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_over_a_web_socket_with_input_and_exit_code() {
    let node = Node::new().await;
    node.create("web", "trap 'exit 0' TERM; while :; do sleep 1; done", json!({}), json!({})).await;
    node.until("web", ready()).await;
    let url = "wss://127.0.0.1/exec/default/web/main?input=1&output=1&error=1&command=sh&command=-c&\
               command=cat%3B%20echo%20oops%20%3E%262%3B%20exit%207";
    let mut request = url.into_client_request().expect("a request");
    let protocol = "v5.channel.k8s.io".parse().expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, answer) =
        tokio_tungstenite::client_async(request, node.connect().await).await.expect("upgraded");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    socket.send(Message::binary(&b"\0typed"[..])).await.expect("sent");
    socket.send(Message::binary(&[255u8, 0][..])).await.expect("stdin closed");
    let mut channels = vec![String::new(); 4];
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            channels[usize::from(bytes[0])].push_str(&String::from_utf8_lossy(&bytes[1..]));
        }
    }
    assert_eq!((channels[1].as_str(), channels[2].as_str()), ("typed", "oops\n"));
    let status: serde_json::Value = serde_json::from_str(&channels[3]).expect("a Status");
    assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_finds_its_containers_again() {
    let mut node = Node::new().await;
    let more = json!({"volumes": [{"name": "scratch", "emptyDir": {}}]});
    node.create("web", "echo up; trap 'exit 0' TERM; while :; do sleep 1; done", json!({}), more).await;
    let before = node.until("web", ready()).await.expect("there");
    node.stop().await;
    node.start().await;
    node.create("other", "trap 'exit 0' TERM; while :; do sleep 1; done", json!({}), json!({})).await;
    node.until("other", ready()).await;
    let after = node.until("web", ready()).await.expect("there");
    let id = |pod: &Pod| pod.status.as_ref()?.container_statuses.as_ref()?[0].container_id.clone();
    assert_eq!(id(&before), id(&after));
    assert_eq!(log(&node, "web").await, "up\n");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_gets_more_memory_in_place() {
    use knarr_runtime::cri::ContainerRuntime;
    let node = Node::new().await;
    let container = json!({"resources": {
        "requests": {"memory": "32Mi", "cpu": "100m"}, "limits": {"memory": "64Mi", "cpu": "200m"},
    }});
    node.create("web", "trap 'exit 0' TERM; while :; do sleep 1; done", container, json!({})).await;
    let before = node.until("web", ready()).await.expect("there");
    let id = |pod: &Pod| {
        let status = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref()).unwrap_or_default();
        status[0].container_id.clone().and_then(|id| Some(id.split_once("://")?.1.to_owned())).expect("an id")
    };
    let patch = json!({"spec": {"containers": [{
        "name": "main", "resources": {"limits": {"memory": "96Mi", "cpu": "400m"}},
    }]}});
    let request = http::Request::patch("/api/v1/namespaces/default/pods/web/resize")
        .header("content-type", "application/strategic-merge-patch+json")
        .body(serde_json::to_vec(&patch).expect("json"))
        .expect("a request");
    node.server.client().request::<Pod>(request).await.expect("the server takes the resize");
    let limit = |pod: &Pod, name: &str| -> Option<String> {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        status.resources.as_ref()?.limits.as_ref()?.get(name).map(|quantity| quantity.0.clone())
    };
    let done = is(move |pod| {
        limit(pod, "memory").as_deref() == Some("96Mi") && limit(pod, "cpu").as_deref() == Some("400m")
    });
    let after = node.until("web", done).await.expect("there");
    assert_eq!(id(&before), id(&after));
    let status = node.runtime.container_status(&id(&after)).await.expect("there");
    let resources = status.resources.expect("a running container");
    assert_eq!((resources.memory_limit, resources.cpu_quota), (96 << 20, 40_000));
    node.end().await;
}
