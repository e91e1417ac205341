//! Admission policies: expressions decide about what is written, and change it.

use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, eventually};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    let mut spec = spec;
    if spec.get("matchConstraints").is_none() {
        spec["matchConstraints"] = json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""],
            "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn make(cluster: &Cluster, plural: &str, object: Value) {
    cluster.admin(Method::POST, &format!("{GROUP}/{plural}"), object).await.ok();
}

async fn bind(cluster: &Cluster, policy_name: &str, extra: Value) {
    let mut spec = json!({"policyName": policy_name, "validationActions": ["Deny"]});
    spec.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
    let binding = policy("ValidatingAdmissionPolicyBinding", policy_name, spec);
    let mut binding = binding;
    binding["spec"].as_object_mut().unwrap().remove("matchConstraints");
    make(cluster, "validatingadmissionpolicybindings", binding).await;
}

/// What creating a map of this data is answered, without keeping it.
async fn tried(cluster: &Cluster, data: Value) -> (u16, Value) {
    let answer = cluster.admin(Method::POST, &format!("{MAPS}?dryRun=All"), map("m", data)).await;
    (answer.status.as_u16(), answer.body)
}

#[tokio::test]
async fn a_policy_denies_what_its_expression_does_not_hold_for() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "variables": [{"name": "size", "expression": "size(object.data)"},
                      {"name": "limit", "expression": "variables.size > 100 ? 1 : int(params.data.limit)"}],
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-params", "expression": "object.metadata.name != 'params'"},
                            {"name": "no-admins", "expression": "!('nobody' in request.userInfo.groups)"}],
        "validations": [
            {"expression": "variables.size <= variables.limit",
             "messageExpression": "'at most ' + string(variables.limit) + ' of ' + namespaceObject.metadata.name"},
            {"expression": "authorizer.group('').resource('pods').namespace('default').check('create').allowed()"},
        ],
        "auditAnnotations": [{"key": "size", "valueExpression": "string(variables.size)"}],
    });
    cluster.admin(Method::POST, MAPS, map("params", json!({"limit": "1"}))).await.ok();
    make(&cluster, "validatingadmissionpolicies", policy("ValidatingAdmissionPolicy", "limit", spec)).await;
    bind(&cluster, "limit", json!({"paramRef": {"name": "params", "parameterNotFoundAction": "Deny"}})).await;
    eventually("the policy denies", async || tried(&cluster, json!({"a": "1", "b": "2"})).await.0 == 422)
        .await;
    let (_, refused) = tried(&cluster, json!({"a": "1", "b": "2"})).await;
    assert_eq!(
        refused["message"],
        "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'limit' with binding 'limit' denied request: at most 1 of default"
    );
    assert_eq!(refused["reason"], "Invalid");
    assert_eq!(tried(&cluster, json!({"a": "1"})).await.0, 201);
    cluster.admin(Method::DELETE, &format!("{MAPS}/params"), Value::Null).await.ok();
    eventually("the parameter is gone", async || tried(&cluster, json!({"a": "1"})).await.0 == 422).await;
    let (_, refused) = tried(&cluster, json!({"a": "1"})).await;
    assert!(refused["message"].as_str().unwrap().ends_with(
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    ));
}

#[tokio::test]
async fn types_are_checked_into_the_status() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments"]}]},
        "validations": [{"expression": "object.spec.replicas > '1'",
            "messageExpression": "'got ' + object.spec.replicas"}, {"expression": "object.spec.replicas > 1"}],
    });
    make(&cluster, "validatingadmissionpolicies", policy("ValidatingAdmissionPolicy", "confused", spec))
        .await;
    let path = format!("{GROUP}/validatingadmissionpolicies/confused");
    let checked = async || {
        let seen = cluster.admin(Method::GET, &path, Value::Null).await.ok();
        seen.pointer("/status/typeChecking").cloned()
    };
    eventually("types are checked", async || checked().await.is_some()).await;
    let warnings = checked().await.unwrap()["expressionWarnings"].clone();
    assert_eq!(warnings.as_array().map(Vec::len), Some(2), "{warnings}");
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
    let text = warnings[0]["warning"].as_str().unwrap();
    assert!(text.starts_with("apps/v1, Kind=Deployment: ERROR: <input>:1:22: "), "{text}");
    assert!(text.contains("found no matching overload for '_>_' applied to '(int, string)'"), "{text}");
    assert_eq!(warnings[1]["fieldRef"], "spec.validations[0].messageExpression");
}

#[tokio::test]
async fn policies_mutate_by_configurations_and_patches_and_again_when_asked() {
    let cluster = Cluster::start().await;
    let first = json!({
        "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'seen': has(object.metadata.annotations) ? 'late' : 'early'}}}"}}],
    });
    let second = json!({
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'a/b': 'c'}}, \
              JSONPatch{op: 'test', path: '/metadata/labels/' + jsonpatch.escapeKey('seen'), value: 'early'}]"}}],
    });
    for (name, spec) in [("a-first", first), ("b-second", second)] {
        make(&cluster, "mutatingadmissionpolicies", policy("MutatingAdmissionPolicy", name, spec)).await;
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name}, "spec": {"policyName": name}});
        make(&cluster, "mutatingadmissionpolicybindings", binding).await;
    }
    let seen = async || tried(&cluster, json!({})).await.1["metadata"].clone();
    eventually("both policies change the object", async || {
        let metadata = seen().await;
        metadata["labels"]["seen"] == "late" && metadata["annotations"]["a/b"] == "c"
    })
    .await;
}

#[tokio::test]
async fn warnings_and_ignored_failures_let_the_request_through() {
    let cluster = Cluster::start().await;
    let spec = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.nope == 'x'"}]});
    make(&cluster, "validatingadmissionpolicies", policy("ValidatingAdmissionPolicy", "ignored", spec)).await;
    bind(&cluster, "ignored", json!({})).await;
    let spec = json!({"validations": [{"expression": "object.data.a == 'x'", "message": "a is x"}]});
    make(&cluster, "validatingadmissionpolicies", policy("ValidatingAdmissionPolicy", "strict", spec)).await;
    bind(
        &cluster,
        "strict",
        json!({"validationActions": ["Deny"], "matchResources": {
        "objectSelector": {"matchLabels": {"strict": "yes"}}}}),
    )
    .await;
    let strict = |data: Value| {
        let mut object = map("m", data);
        object["metadata"]["labels"] = json!({"strict": "yes"});
        object
    };
    let path = format!("{MAPS}?dryRun=All");
    eventually("the strict policy denies", async || {
        cluster.admin(Method::POST, &path, strict(json!({"a": "y"}))).await.status == 422
    })
    .await;
    assert_eq!(tried(&cluster, json!({"a": "y"})).await.0, 201, "the binding's selector does not match");
    assert_eq!(cluster.admin(Method::POST, &path, strict(json!({"a": "x"}))).await.status, 201);
    let missing = cluster.admin(Method::POST, &path, strict(json!({"b": "x"}))).await;
    assert!(
        missing
            .message()
            .ends_with("denied request: expression 'object.data.a == 'x'' resulted in error: no such key: a"),
        "{}",
        missing.message()
    );
}
