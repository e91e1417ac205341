//! Custom resources from their definition to their end, and evictions.

use std::time::Duration;

use axum::body::Body;
use http::Method;
use http_body_util::BodyExt;
use knarr_apiserver::user::UserInfo;
use knarr_testkit::{Answer, TestServer};
use serde_json::{Value, json};
use tower::ServiceExt;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    json!({
        "kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                "selectableFields": [{"jsonPath": ".spec.colour"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 1},
                        "colour": {"type": "string", "default": "red"},
                        "replicas": {"type": "integer"}}},
                    "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}}}},
            }],
        },
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"kind": "Widget", "apiVersion": "example.com/v1", "metadata": {"name": name}, "spec": spec})
}

/// Asks until the answer is as wanted; the server needs a moment to act on a definition.
async fn eventually(server: &TestServer, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let ask = async {
        loop {
            let answer = server.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ask).await.expect("the server acts on definitions")
}

async fn define(server: &TestServer) {
    let made = server.post(DEFINITIONS, &definition()).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    eventually(server, WIDGETS, |answer| answer.status == 200).await;
}

#[tokio::test]
async fn a_definition_is_established_and_its_resource_served() {
    let server = TestServer::start().await;
    define(&server).await;
    let seen = server.get(&format!("{DEFINITIONS}/widgets.example.com")).await.json();
    let conditions: Vec<(&str, &str)> = seen["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(conditions, [("NamesAccepted", "True"), ("Established", "True")]);
    assert_eq!(seen["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(seen["spec"]["names"]["listKind"], "WidgetList");
    let service = "/apis/apiregistration.k8s.io/v1/apiservices/v1.example.com";
    let service = eventually(&server, service, |answer| answer.status == 200).await.json();
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    let document = server.get("/openapi/v3/apis/example.com/v1").await.json();
    assert!(document["components"]["schemas"]["com.example.v1.Widget"].is_object(), "{document}");
    let served = server.get("/apis/example.com/v1").await.json();
    assert_eq!(served["resources"][0]["shortNames"], json!(["wd"]));

    let made = server.post(WIDGETS, &widget("a", json!({"size": 3, "unknown": 1}))).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.headers["warning"], "299 - \"unknown field \\\"spec.unknown\\\"\"");
    let made = made.json();
    assert_eq!(made["spec"], json!({"size": 3, "colour": "red"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let list = server.get(WIDGETS).await.json();
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&json!("WidgetList"), &json!("Widget")));
    let none = server.get(&format!("{WIDGETS}?fieldSelector=spec.colour%3Dblue")).await.json();
    assert_eq!(none["items"], json!([]));
    let table = server
        .send(
            Method::GET,
            WIDGETS,
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
            Body::empty(),
        )
        .await
        .json();
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3]));
}

/// A watch that has begun; its body ends with it.
async fn watch(server: &TestServer, path: &str) -> Body {
    let request = http::Request::get(path).body(Body::empty()).unwrap();
    let user = UserInfo::new("admin", ["system:masters"]);
    let response = server.server().as_user(user).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

async fn events(watch: Body) -> Vec<Value> {
    let whole = tokio::time::timeout(Duration::from_secs(10), watch.collect());
    let whole = whole.await.expect("the watch ends").unwrap().to_bytes();
    whole
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[tokio::test]
async fn watches_end_when_their_definition_changes_and_those_after_see_the_new_one() {
    let server = TestServer::start().await;
    define(&server).await;
    assert_eq!(server.post(WIDGETS, &widget("a", json!({"size": 1}))).await.status, 201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let watched = format!("{WIDGETS}?watch=true");
    let before = watch(&server, &watched).await;
    let mut changed = server.get(&path).await.json();
    changed["metadata"]["labels"] = json!({"only": "metadata"});
    let changed = server.put(&path, &changed).await.json();
    assert_eq!(server.post(WIDGETS, &widget("b", json!({"size": 1}))).await.status, 201);

    let mut other = changed.clone();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    other.pointer_mut(properties).unwrap()["shape"] = json!({"type": "string", "default": "round"});
    assert_eq!(server.put(&path, &other).await.status, 200);
    let seen = events(before).await;
    let names: Vec<_> =
        seen.iter().map(|event| event["object"]["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["a", "b"],
        "a change of the metadata ends nothing, and nothing is lost before the end"
    );

    let after = watch(&server, &watched).await;
    assert_eq!(server.delete(&path).await.status, 200);
    let seen = events(after).await;
    assert_eq!(seen[0]["object"]["spec"]["shape"], "round");
    let last: Vec<_> = seen.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(last, ["ADDED", "ADDED", "DELETED", "DELETED"], "the definition's end is that of its objects");
}

#[tokio::test]
async fn custom_objects_are_validated_patched_and_scaled_by_their_schema() {
    let server = TestServer::start().await;
    define(&server).await;
    let bad = server.post(WIDGETS, &widget("a", json!({"size": 0}))).await;
    assert_eq!(bad.status, 422);
    assert_eq!(
        bad.json()["message"],
        "Widget.example.com \"a\" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"
    );
    assert_eq!(server.post(WIDGETS, &widget("a", json!({"size": 1}))).await.status, 201);
    let one = format!("{WIDGETS}/a");
    let patched =
        server.patch(&one, "merge", &json!({"spec": {"size": 5}, "status": {"replicas": 9}})).await.json();
    assert_eq!((&patched["spec"]["size"], patched.get("status")), (&json!(5), None));
    assert_eq!(patched["metadata"]["generation"], 2);
    let status =
        server.patch(&format!("{one}/status"), "merge", &json!({"status": {"replicas": 2}})).await.json();
    assert_eq!((&status["status"]["replicas"], &status["metadata"]["generation"]), (&json!(2), &json!(2)));
    let scaled = server.patch(&format!("{one}/scale"), "merge", &json!({"spec": {"replicas": 4}})).await;
    assert_eq!(scaled.status, 200, "{:?}", scaled.body);
    assert_eq!(server.get(&one).await.json()["spec"]["replicas"], 4);
    assert_eq!(server.patch(&one, "strategic-merge", &json!({})).await.status, 415);
    let emptied = server.patch(&one, "json", &json!([{"op": "replace", "path": "", "value": "x"}])).await;
    assert_eq!(emptied.status, 422, "{:?}", emptied.body);
    assert_eq!(server.patch(&one, "merge", &json!("x")).await.status, 400);
    let headers = [("content-type", "application/apply-patch+yaml")];
    let body = widget("b", json!({"size": 2})).to_string();
    let applied = server.send(Method::PATCH, &format!("{WIDGETS}/b?fieldManager=m"), &headers, body).await;
    assert_eq!(applied.status, 201, "{:?}", applied.body);
    assert_eq!(applied.json()["metadata"]["managedFields"][0]["manager"], "m");
}

#[tokio::test]
async fn instances_go_before_their_definition_and_then_nothing_is_served() {
    let server = TestServer::start().await;
    define(&server).await;
    server.post(WIDGETS, &widget("a", json!({"size": 1}))).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let deleted = server.delete(&path).await;
    assert_eq!(deleted.status, 200);
    eventually(&server, &path, |answer| answer.status == 404).await;
    eventually(&server, WIDGETS, |answer| answer.status == 404).await;
    assert_eq!(server.get("/apis/example.com/v1").await.status, 404);
    let service = "/apis/apiregistration.k8s.io/v1/apiservices/v1.example.com";
    eventually(&server, service, |answer| answer.status == 404).await;
    // A definition of the same name begins empty.
    define(&server).await;
    assert_eq!(server.get(WIDGETS).await.json()["items"], json!([]));
}

#[tokio::test]
async fn definitions_that_cannot_be_served_are_refused() {
    let server = TestServer::start().await;
    let mut named = definition();
    named["metadata"]["name"] = "other.example.com".into();
    let refused = server.post(DEFINITIONS, &named).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.json()["details"]["causes"][0]["message"],
        "Invalid value: \"other.example.com\": must be spec.names.plural+\".\"+spec.group"
    );
    let mut stored = definition();
    stored["spec"]["versions"][0]["storage"] = false.into();
    assert_eq!(server.post(DEFINITIONS, &stored).await.status, 422);
}

#[tokio::test]
async fn rules_of_a_definition_are_checked_and_then_hold_for_its_objects() {
    let server = TestServer::start().await;
    let mut definition = definition();
    let rules = |rules: Value| {
        let mut definition = definition.clone();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] =
            rules;
        definition
    };
    let refused = server.post(DEFINITIONS, &rules(json!([{"rule": "self.nope > 1"}]))).await;
    assert_eq!(refused.status, 422);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("undefined field 'nope'"), "{message}");
    let good = json!([{"rule": "self.size < 10", "message": "small"}, {"rule": "self.size >= oldSelf.size", "message": "grows"}]);
    definition = rules(good);
    assert_eq!(server.post(DEFINITIONS, &definition).await.status, 201);
    eventually(&server, WIDGETS, |answer| answer.status == 200).await;
    let refused = server.post(WIDGETS, &widget("a", json!({"size": 12}))).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["message"], "Widget.example.com \"a\" is invalid: spec: Invalid value: small");
    assert_eq!(server.post(WIDGETS, &widget("a", json!({"size": 5}))).await.status, 201);
    let shrunk = server.patch(&format!("{WIDGETS}/a"), "merge", &json!({"spec": {"size": 4}})).await;
    assert_eq!(shrunk.status, 422, "{:?}", shrunk.body);
    let grown = server.patch(&format!("{WIDGETS}/a"), "merge", &json!({"spec": {"size": 6}})).await;
    assert_eq!(grown.status, 200, "{:?}", grown.body);
}

#[tokio::test]
async fn each_version_selects_by_its_own_fields() {
    let server = TestServer::start().await;
    let mut definition = definition();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    second["selectableFields"] = json!([{"jsonPath": ".spec.size"}]);
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    assert_eq!(server.post(DEFINITIONS, &definition).await.status, 201);
    eventually(&server, WIDGETS, |answer| answer.status == 200).await;
    for (name, size) in [("a", 1), ("b", 2)] {
        assert_eq!(server.post(WIDGETS, &widget(name, json!({"size": size}))).await.status, 201);
    }
    let second = "/apis/example.com/v2/namespaces/default/widgets?fieldSelector=spec.size%3D2";
    let found = server.get(second).await.json();
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn a_schema_that_keeps_everything_is_published_and_keeps_everything() {
    let server = TestServer::start().await;
    let mut definition = definition();
    definition["spec"]["versions"][0] = json!({"name": "v1", "served": true, "storage": true, "schema": {
        "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let made = server.post(DEFINITIONS, &definition).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    eventually(&server, WIDGETS, |answer| answer.status == 200).await;
    let document = server.get("/openapi/v2").await.json();
    assert_eq!(
        document["definitions"]["com.example.v1.Widget"],
        json!({"type": "object", "x-kubernetes-group-version-kind":
            [{"group": "example.com", "version": "v1", "kind": "Widget"}]})
    );
    let document = server.get("/openapi/v3/apis/example.com/v1").await.json();
    let published = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(published["x-kubernetes-preserve-unknown-fields"], true);
    let object = json!({"kind": "Widget", "apiVersion": "example.com/v1", "metadata": {"name": "a"},
        "a": {"b": [{"c": "d"}]}, "num": {"num1": 1, "num2": 1_000_000}});
    let made = server.post(&format!("{WIDGETS}?fieldValidation=Strict"), &object).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    assert_eq!(made.json()["a"], object["a"]);
}

#[tokio::test]
async fn an_eviction_costs_the_budget_one_disruption() {
    let server = TestServer::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["a", "b"] {
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "labels": {"app": "x"}},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(server.post(pods, &pod).await.status, 201);
        let status =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(server.patch(&format!("{pods}/{name}/status"), "merge", &status).await.status, 200);
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": "x"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    assert_eq!(server.post(budgets, &budget).await.status, 201);
    let evict = async |name: &str| {
        let eviction = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name}});
        server.post(&format!("{pods}/{name}/eviction"), &eviction).await
    };
    assert_eq!(evict("a").await.status, 429);
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2,
        "desiredHealthy": 1, "expectedPods": 2}});
    assert_eq!(server.patch(&format!("{budgets}/x/status"), "merge", &status).await.status, 200);
    let evicted = evict("a").await;
    assert_eq!(evicted.status, 201, "{:?}", evicted.body);
    assert_eq!(server.get(&format!("{pods}/a")).await.status, 404);
    let refused = evict("b").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "DisruptionBudget");
}

#[tokio::test]
async fn what_a_schema_does_not_know_goes_also_when_something_else_than_a_client_adds_it() {
    use knarr_apiserver::objects::{Objects, Resource};
    let server = TestServer::start().await;
    define(&server).await;
    let mut changed = widget("a", json!({"size": 2, "smuggled": true}));
    let registry = server.server().registry();
    registry.complete(Resource::new("example.com", "widgets"), &mut changed).unwrap();
    assert_eq!(changed["spec"], json!({"size": 2, "colour": "red"}));
}

#[tokio::test]
async fn groups_of_the_project_need_an_approval() {
    let server = TestServer::start().await;
    let mut ours = definition();
    ours["metadata"]["name"] = "widgets.example.k8s.io".into();
    ours["spec"]["group"] = "example.k8s.io".into();
    let refused = server.post(DEFINITIONS, &ours).await;
    let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("metadata.annotations[api-approved.kubernetes.io]: Required value"),
        "{message}"
    );
    ours["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
    assert_eq!(server.post(DEFINITIONS, &ours).await.status, 201);
    let condition = |answer: &Answer| {
        let conditions = answer.json()["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|c| c["type"] == "KubernetesAPIApprovalPolicyConformant")
    };
    let path = format!("{DEFINITIONS}/widgets.example.k8s.io");
    let seen = eventually(&server, &path, |answer| condition(answer).is_some()).await;
    let found = condition(&seen).unwrap();
    assert_eq!((&found["status"], &found["reason"]), (&json!("False"), &json!("UnapprovedAnnotation")));
}

#[tokio::test]
async fn a_version_with_objects_stays_in_its_definition() {
    let server = TestServer::start().await;
    define(&server).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut renamed = server.get(&path).await.json();
    renamed["spec"]["versions"][0]["name"] = "v2".into();
    let refused = server.put(&path, &renamed).await;
    assert_eq!(refused.status, 422);
    let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{message}"
    );
}
