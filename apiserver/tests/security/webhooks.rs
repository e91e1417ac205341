//! Webhooks: a server on loopback is asked about what is written.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};
use crate::https::Https;

/// A webhook on loopback that answers every review with what a function makes of its request.
pub struct WebhookServer {
    server: Https,
    bundle: String,
}

impl WebhookServer {
    pub async fn start(answer: fn(&Value) -> Value) -> Self {
        Self::serve(move |review| {
            let mut response = answer(&review["request"]);
            response["uid"] = review["request"]["uid"].clone();
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
        })
        .await
    }

    /// Answers with what a function makes of the whole question.
    async fn serve(reply: impl Fn(Value) -> Value + Clone + Send + Sync + 'static) -> Self {
        let answer =
            move |body: Bytes| async move { Json(reply(serde_json::from_slice(&body).unwrap_or_default())) };
        let server = Https::serve(Router::new().fallback(answer)).await;
        let bundle = STANDARD.encode(&server.authority);
        Self { server, bundle }
    }

    pub fn configuration(&self, kind: &str, extra: Value) -> Value {
        let mut hook = json!({
            "name": "hook.example.com",
            "clientConfig": {"url": format!("https://localhost:{}/", self.server.port), "caBundle": self.bundle},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        hook.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "hooks"}, "webhooks": [hook]})
    }
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
}

/// Adds a key to what is asked about.
pub fn added(_: &Value) -> Value {
    let patch = json!([{"op": "add", "path": "/data/added", "value": "yes"}]);
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()),
        "warnings": ["changed"], "auditAnnotations": {"note": "told"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_webhook_changes_what_is_stored() {
    let cluster = Cluster::start().await;
    let webhook = WebhookServer::start(added).await;
    let configuration = webhook.configuration("MutatingWebhookConfiguration", json!({}));
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    cluster.admin(Method::POST, path, configuration).await.ok();
    let counter = AtomicUsize::new(0);
    eventually("new config maps are changed", async || {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let made = cluster.admin(Method::POST, CONFIG_MAPS, config_map(&format!("m{number}"))).await.ok();
        made["data"] == json!({"a": "b", "added": "yes"})
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_webhook_refuses_in_its_own_words_what_its_conditions_select() {
    let cluster = Cluster::start().await;
    let refuse = |_: &Value| json!({"allowed": false, "status": {"message": "not today", "code": 403}});
    let webhook = WebhookServer::start(refuse).await;
    let conditions = json!({"matchConditions": [{"name": "not-skipped", "expression": "object.metadata.name != 'skip-me'"}]});
    let configuration = webhook.configuration("ValidatingWebhookConfiguration", conditions);
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    cluster.admin(Method::POST, path, configuration).await.ok();
    eventually("config maps are refused", async || {
        let answer = cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v")).await;
        answer.message() == r#"admission webhook "hook.example.com" denied the request: not today"#
            && answer.status == StatusCode::FORBIDDEN
    })
    .await;
    cluster.admin(Method::POST, CONFIG_MAPS, config_map("skip-me")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_cannot_be_evaluated_refuses_unless_the_webhook_may_be_ignored() {
    let cluster = Cluster::start().await;
    let webhook = WebhookServer::start(|_| json!({"allowed": false, "status": {"message": "no"}})).await;
    let conditions = json!({"matchConditions": [{"name": "has-c", "expression": "object.data.c == 'x'"}]});
    let configuration = webhook.configuration("ValidatingWebhookConfiguration", conditions);
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let mut made = cluster.admin(Method::POST, path, configuration).await.ok();
    eventually("config maps are refused", async || {
        let answer = cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v")).await;
        answer.message().starts_with("configmaps \"v\" is forbidden: ")
            && answer.status == StatusCode::FORBIDDEN
    })
    .await;
    made["webhooks"][0]["failurePolicy"] = "Ignore".into();
    cluster.admin(Method::PUT, &format!("{path}/hooks"), made).await.ok();
    eventually("config maps are let in unasked", async || {
        let path = format!("{CONFIG_MAPS}?dryRun=All");
        cluster.admin(Method::POST, &path, config_map("v")).await.status.is_success()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_knows_only_the_older_review_is_asked_with_it() {
    let cluster = Cluster::start().await;
    let webhook = WebhookServer::serve(|review| match review["apiVersion"].as_str() {
        Some("admission.k8s.io/v1beta1") => {
            let patch = json!([{"op": "add", "path": "/data/added", "value": "beta"}]);
            json!({"response": {"allowed": true, "patch": STANDARD.encode(patch.to_string())}})
        }
        _ => json!({"response": {"allowed": false}}),
    })
    .await;
    let versions = json!({"admissionReviewVersions": ["v9", "v1beta1", "v1"]});
    let configuration = webhook.configuration("MutatingWebhookConfiguration", versions);
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    cluster.admin(Method::POST, path, configuration).await.ok();
    eventually("new config maps are changed", async || {
        let made =
            cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("m")).await.ok();
        made["data"] == json!({"a": "b", "added": "beta"})
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_reached_refuses_unless_it_may_be_ignored() {
    let cluster = Cluster::start().await;
    let webhook = WebhookServer::start(|_| json!({"allowed": true})).await;
    let mut configuration = webhook.configuration("ValidatingWebhookConfiguration", json!({}));
    // Nobody trusts the server's certificate without its authority.
    configuration["webhooks"][0]["clientConfig"].as_object_mut().unwrap().remove("caBundle");
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let made = cluster.admin(Method::POST, path, configuration).await.ok();
    eventually("config maps are refused", async || {
        let answer = cluster.admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v")).await;
        let failed = r#"Internal error occurred: failed calling webhook "hook.example.com": failed to call webhook: Post "#;
        answer.message().starts_with(failed) && answer.status == StatusCode::INTERNAL_SERVER_ERROR
    })
    .await;
    let mut ignored = made;
    ignored["webhooks"][0]["failurePolicy"] = "Ignore".into();
    cluster.admin(Method::PUT, &format!("{path}/hooks"), ignored).await.ok();
    eventually("config maps are let in", async || {
        cluster
            .admin(Method::POST, &format!("{CONFIG_MAPS}?dryRun=All"), config_map("v"))
            .await
            .status
            .is_success()
    })
    .await;
}

/// Moves `spec.host` of version 1 to `spec.address` of version 2 and back.
fn converted(review: Value) -> Value {
    let wanted = review["request"]["desiredAPIVersion"].clone();
    let objects = review["request"]["objects"].as_array().cloned().unwrap_or_default();
    let objects = objects.into_iter().map(|mut object| {
        let (from, to) = if wanted == "example.com/v2" { ("host", "address") } else { ("address", "host") };
        let value = object["spec"][from].take();
        object["apiVersion"] = wanted.clone();
        object["spec"] = json!({to: value});
        object["metadata"]["generation"] = 99.into();
        object
    });
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
        "uid": review["request"]["uid"], "result": {"status": "Success"},
        "convertedObjects": objects.collect::<Vec<_>>()}})
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const ONE: &str = "/apis/example.com/v1/namespaces/default/toys";
const TWO: &str = "/apis/example.com/v2/namespaces/default/toys";

/// One version of the toys, whose only field can be selected by.
fn version(name: &str, storage: bool, field: &str) -> Value {
    let spec = json!({"type": "object", "properties": {field: {"type": "string"}}});
    json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
        "selectableFields": [{"jsonPath": format!(".spec.{field}")}]})
}

/// A definition whose versions differ, and are converted by the server.
fn toys(server: &WebhookServer) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "toys.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "toys", "kind": "Toy"},
            "versions": [version("v1", true, "host"), version("v2", false, "address")],
            "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
                "clientConfig": {"url": format!("https://localhost:{}/", server.server.port), "caBundle": server.bundle}}},
        },
    })
}

fn toy(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Toy", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn custom_resources_are_converted_by_their_webhook() {
    let server = WebhookServer::serve(converted).await;
    let cluster = Cluster::start().await;
    let mut definition = toys(&server);
    cluster.admin(Method::POST, DEFINITIONS, definition.clone()).await.ok();
    eventually("toys are served", async || {
        cluster.admin(Method::GET, TWO, Value::Null).await.status.is_success()
    })
    .await;
    cluster.admin(Method::POST, ONE, toy("v1", "a", json!({"host": "h"}))).await.ok();
    let seen = cluster.admin(Method::GET, &format!("{TWO}/a"), Value::Null).await.ok();
    assert_eq!((&seen["apiVersion"], &seen["spec"]), (&json!("example.com/v2"), &json!({"address": "h"})));
    assert_eq!(seen["metadata"]["generation"], 1, "metadata are the server's");
    let made = cluster.admin(Method::POST, TWO, toy("v2", "b", json!({"address": "i"}))).await.ok();
    assert_eq!(made["spec"], json!({"address": "i"}));
    // From now on version 2 is stored; what is stored already is converted when it is read.
    let path = format!("{DEFINITIONS}/toys.example.com");
    let live = cluster.admin(Method::GET, &path, Value::Null).await.ok();
    definition["metadata"] = live["metadata"].clone();
    definition["spec"]["versions"] = json!([version("v1", false, "host"), version("v2", true, "address")]);
    let updated = cluster.admin(Method::PUT, &path, definition).await.ok();
    assert_eq!(updated["status"]["storedVersions"], json!(["v1", "v2"]));
    cluster.admin(Method::POST, TWO, toy("v2", "c", json!({"address": "j"}))).await.ok();
    for (list, field) in [(ONE, "host"), (TWO, "address")] {
        let wanted = json!([{field: "h"}, {field: "i"}, {field: "j"}]);
        let specs = async || {
            let found = cluster.admin(Method::GET, list, Value::Null).await.body;
            let items = found["items"].as_array().cloned().unwrap_or_default();
            json!(items.iter().map(|item| item["spec"].clone()).collect::<Vec<_>>())
        };
        eventually("every object is in the version asked for", async || specs().await == wanted).await;
    }
}

#[tokio::test]
async fn fields_that_only_the_conversion_shows_select_lists_watches_and_deletions() {
    let server = WebhookServer::serve(converted).await;
    let cluster = Cluster::start().await;
    cluster.admin(Method::POST, DEFINITIONS, toys(&server)).await.ok();
    eventually("toys are served", async || {
        cluster.admin(Method::GET, TWO, Value::Null).await.status.is_success()
    })
    .await;
    let begin = cluster.admin(Method::GET, TWO, Value::Null).await.ok();
    let begin = begin["metadata"]["resourceVersion"].as_str().unwrap();
    for (name, host) in [("a", "h"), ("b", "i"), ("c", "h"), ("d", "i"), ("e", "h")] {
        cluster.admin(Method::POST, ONE, toy("v1", name, json!({"host": host}))).await.ok();
    }
    let list = async |query: &str| {
        let found = cluster.admin(Method::GET, &format!("{TWO}?{query}"), Value::Null).await.ok();
        let items = found["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["apiVersion"] == "example.com/v2"), "{found}");
        let names: Vec<String> =
            items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect();
        (names, found["metadata"]["continue"].as_str().map(str::to_owned))
    };
    assert_eq!(list("fieldSelector=spec.address%3Dh").await.0, ["a", "c", "e"]);
    assert_eq!(list("fieldSelector=spec.address!%3Dh").await.0, ["b", "d"]);
    assert_eq!(list("fieldSelector=spec.address%3Dh,metadata.name%3Dc").await.0, ["c"]);
    let (first, token) = list("fieldSelector=spec.address%3Dh&limit=2").await;
    assert_eq!(first, ["a", "c"]);
    let token = token.unwrap();
    let (rest, token) = list(&format!("fieldSelector=spec.address%3Dh&limit=2&continue={token}")).await;
    assert_eq!((rest.as_slice(), token), (["e".to_owned()].as_slice(), None));
    let unknown =
        cluster.admin(Method::GET, &format!("{TWO}?fieldSelector=spec.host%3Dh"), Value::Null).await;
    assert_eq!(unknown.message(), "field label not supported: spec.host");

    // One comes into what is watched for, one leaves it, one changes in it, and one is deleted.
    let patch = async |name: &str, change: Value| {
        let mut changed = cluster.admin(Method::GET, &format!("{TWO}/{name}"), Value::Null).await.ok();
        let fields = changed.as_object_mut().unwrap();
        fields.extend(change.as_object().unwrap().clone());
        cluster.admin(Method::PUT, &format!("{TWO}/{name}"), changed).await.ok();
    };
    patch("b", json!({"spec": {"address": "h"}})).await;
    patch("c", json!({"spec": {"address": "i"}})).await;
    let metadata =
        cluster.admin(Method::GET, &format!("{TWO}/e"), Value::Null).await.ok()["metadata"].clone();
    let mut labelled = metadata.clone();
    labelled["labels"] = json!({"x": "y"});
    patch("e", json!({"metadata": labelled})).await;
    cluster.admin(Method::DELETE, &format!("{TWO}/a"), Value::Null).await.ok();
    cluster.admin(Method::DELETE, &format!("{TWO}/d"), Value::Null).await.ok();
    let watched =
        |query: &str| format!("{TWO}?watch=true&timeoutSeconds=1&fieldSelector=spec.address%3Dh&{query}");
    let seen = cluster.watch(&watched(&format!("resourceVersion={begin}"))).await;
    let told: Vec<(&str, &str, &str)> = seen
        .iter()
        .map(|event| {
            let object = &event["object"];
            let [kind, name, address] =
                [&event["type"], &object["metadata"]["name"], &object["spec"]["address"]];
            (kind.as_str().unwrap(), name.as_str().unwrap(), address.as_str().unwrap())
        })
        .collect();
    let wanted = [
        ("ADDED", "a", "h"),
        ("ADDED", "c", "h"),
        ("ADDED", "e", "h"),
        ("ADDED", "b", "h"),
        ("DELETED", "c", "h"),
        ("MODIFIED", "e", "h"),
        ("DELETED", "a", "h"),
    ];
    assert_eq!(told, wanted);
    let initial = cluster.watch(&watched("resourceVersion=0")).await;
    let names: Vec<&Value> = initial.iter().map(|event| &event["object"]["metadata"]["name"]).collect();
    assert_eq!(names, ["b", "e"]);

    cluster.admin(Method::DELETE, &format!("{TWO}?fieldSelector=spec.address%3Dh"), Value::Null).await.ok();
    assert_eq!(list("").await.0, ["c"]);
}

#[tokio::test]
async fn the_webhook_is_asked_once_for_all_watchers_and_for_many_objects_at_once() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let server = WebhookServer::serve(|review| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        converted(review)
    })
    .await;
    let cluster = Cluster::start().await;
    cluster.admin(Method::POST, DEFINITIONS, toys(&server)).await.ok();
    eventually("toys are served", async || {
        cluster.admin(Method::GET, TWO, Value::Null).await.status.is_success()
    })
    .await;
    let begin = cluster.admin(Method::GET, TWO, Value::Null).await.ok();
    let begin = begin["metadata"]["resourceVersion"].as_str().unwrap();
    for number in 0..20 {
        let host = if number % 10 == 9 { "h" } else { "i" };
        cluster
            .admin(Method::POST, ONE, toy("v1", &format!("t{number:02}"), json!({"host": host})))
            .await
            .ok();
    }

    let since = ASKED.load(Ordering::Relaxed);
    let query = "fieldSelector=spec.address%3Dh&limit=1";
    let first = cluster.admin(Method::GET, &format!("{TWO}?{query}"), Value::Null).await.ok();
    assert_eq!(first["items"][0]["metadata"]["name"], "t09");
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = cluster.admin(Method::GET, &format!("{TWO}?{query}&continue={token}"), Value::Null).await.ok();
    assert_eq!(rest["items"][0]["metadata"]["name"], "t19");
    assert_eq!(rest["metadata"]["continue"], Value::Null);
    assert_eq!(ASKED.load(Ordering::Relaxed) - since, 2, "once for each page");

    let since = ASKED.load(Ordering::Relaxed);
    let watch = format!("{TWO}?watch=true&timeoutSeconds=1&resourceVersion={begin}");
    let selected = format!("{watch}&fieldSelector=spec.address%3Dh");
    let watches = [&watch, &watch, &selected, &selected].map(|path| cluster.watch(path));
    let seen: Vec<usize> = futures::future::join_all(watches).await.iter().map(Vec::len).collect();
    assert_eq!(seen, [20, 20, 2, 2]);
    assert_eq!(ASKED.load(Ordering::Relaxed) - since, 20, "once for each event");
}
