//! The audit log of a server as every cluster runs it.

use std::sync::Arc;

use http::{Method, StatusCode};
use knarr_apiserver::audit::{Auditor, Policy, Sink};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::webhooks::{WebhookServer, added};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Keeps events, for the test to look at.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Value>>);

impl Sink for Kept {
    fn write(&self, event: &[u8]) {
        self.0.lock().push(serde_json::from_slice(event).unwrap());
    }
}

impl Kept {
    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.0.lock())
    }
}

/// A cluster that tells of what the user `bob` does, of Secrets little and of the rest all.
async fn audited() -> (Cluster, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let policy = Policy::parse(
        r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: Metadata, users: [bob], resources: [{group: "", resources: [secrets]}], omitStages: [RequestReceived]}
- {level: RequestResponse, users: [bob, ""]}
"#,
    )
    .unwrap();
    let auditor = Arc::new(Auditor::new(policy, vec![kept.clone()]));
    (Cluster::start_with(Some(auditor)).await, kept)
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_write_is_told_with_what_was_sent_and_answered() {
    let (cluster, kept) = audited().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    cluster.user("bob", &["system:masters"], Method::POST, MAPS, map).await.ok();
    let events = kept.take();
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let [received, complete] = events.as_slice() else { unreachable!() };
    assert_eq!((&received["kind"], &received["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!(received["auditID"], complete["auditID"]);
    assert_eq!(received["requestReceivedTimestamp"], complete["requestReceivedTimestamp"]);
    let time = complete["stageTimestamp"].as_str().unwrap();
    assert_eq!((time.len(), &time[19..20]), ("2030-01-01T00:00:00.000000Z".len(), "."));
    assert_eq!(complete["user"]["username"], "bob");
    assert_eq!((&complete["verb"], &complete["requestURI"]), (&json!("create"), &json!(MAPS)));
    assert_eq!(
        complete["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(complete["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(complete["requestObject"]["data"], json!({"k": "v"}));
    assert!(complete["responseObject"]["metadata"]["uid"].is_string());
    assert!(complete["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(complete["annotations"]["authorization.k8s.io/decision"], "allow");

    let patch = json!({"data": {"k": "w"}});
    cluster.user("bob", &["system:masters"], Method::DELETE, &format!("{MAPS}/none"), patch).await;
    let events = kept.take();
    let status = &events.last().unwrap()["responseStatus"];
    assert_eq!((&status["reason"], &status["code"]), (&json!("NotFound"), &json!(404)));
    assert_eq!(status["details"]["name"], "none");
}

#[tokio::test]
async fn secrets_are_told_of_but_not_told() {
    let (cluster, kept) = audited().await;
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "hush"}});
    let path = "/api/v1/namespaces/default/secrets";
    cluster.user("bob", &["system:masters"], Method::POST, path, secret).await.ok();
    let events = kept.take();
    assert_eq!(stages(&events), ["ResponseComplete"]);
    assert!(!events[0].to_string().contains("hush"));
    assert_eq!(events[0]["objectRef"]["name"], "s");
    let refused = cluster.user("bob", &[], Method::GET, &format!("{path}/s"), Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let events = kept.take();
    assert_eq!(events[0]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[0]["responseStatus"]["reason"], "Forbidden");
    cluster.user("eve", &["system:masters"], Method::GET, path, Value::Null).await.ok();
    assert!(kept.take().is_empty(), "the policy wants nothing of others");
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let (cluster, kept) = audited().await;
    let path = format!("{MAPS}?watch=true&timeoutSeconds=1");
    cluster.user("bob", &["system:masters"], Method::GET, &path, Value::Null).await;
    let events = kept.take();
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert!(events[2].get("responseObject").is_none());
    let unknown = cluster.outside(Some("nonsense"), Method::GET, MAPS, Value::Null).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    let events = kept.take();
    assert_eq!(stages(&events), ["ResponseStarted"]);
    assert_eq!(events[0]["responseStatus"]["message"], "Authentication failed, attempted: bearer");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_webhooks_did_is_told_by_annotations() {
    let (cluster, kept) = audited().await;
    let webhook = WebhookServer::start(added).await;
    let hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let configuration = webhook.configuration("MutatingWebhookConfiguration", json!({}));
    cluster.admin(Method::POST, hooks, configuration).await.ok();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "m"}, "data": {"k": "v"}});
    eventually("maps are changed", async || {
        kept.take();
        let made = cluster.user("bob", &["system:masters"], Method::POST, MAPS, map.clone()).await.ok();
        made["data"]["added"] == "yes"
    })
    .await;
    let events = kept.take();
    let annotations = &events.last().unwrap()["annotations"];
    let at = "webhook.admission.k8s.io/round_0_index_0";
    assert_eq!(
        annotations[format!("mutation.{at}")],
        r#"{"configuration":"hooks","webhook":"hook.example.com","mutated":true}"#
    );
    assert_eq!(
        annotations[format!("patch.{at}")],
        r#"{"configuration":"hooks","webhook":"hook.example.com","patch":[{"op":"add","path":"/data/added","value":"yes"}],"patchType":"JSONPatch"}"#
    );
    assert_eq!(annotations["hook.example.com/note"], "told");

    // A hook that is gone refuses, unless it may be ignored.
    drop(webhook);
    kept.take();
    let refused = cluster.user("bob", &["system:masters"], Method::POST, MAPS, map.clone()).await;
    assert_eq!(refused.status, http::StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        kept.take().last().unwrap()["annotations"][format!("mutation.{at}")],
        r#"{"configuration":"hooks","webhook":"hook.example.com","mutated":false}"#
    );
    let path = format!("{hooks}/hooks");
    let mut ignored = cluster.admin(Method::GET, &path, Value::Null).await.ok();
    ignored["webhooks"][0]["failurePolicy"] = "Ignore".into();
    cluster.admin(Method::PUT, &path, ignored).await.ok();
    eventually("the request is let in without the hook", async || {
        kept.take();
        cluster.user("bob", &["system:masters"], Method::POST, MAPS, map.clone()).await.status.is_success()
    })
    .await;
    let events = kept.take();
    assert_eq!(
        events.last().unwrap()["annotations"][format!("failed-open.mutation.{at}")],
        "hook.example.com"
    );
}
