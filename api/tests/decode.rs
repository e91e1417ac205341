//! What comes out of a request's body, and how bad bodies are refused.

use knarr_api::decode::{self, DecodeError, Decoded, Format};
use knarr_api::gvk::GroupVersionKind;
use knarr_api::schema;
use serde_json::{Value, json};

fn read(kind: (&str, &str, &str), text: &str) -> Result<Decoded, DecodeError> {
    let of = schema::by_gvk(kind.0, kind.1, kind.2).expect("known kind");
    decode::typed(text.as_bytes(), Format::Json, &of, true)
}

fn pod(value: &Value) -> Result<Decoded, DecodeError> {
    read(("", "v1", "Pod"), &value.to_string())
}

fn deployment(text: &str) -> Result<Decoded, DecodeError> {
    read(("apps", "v1", "Deployment"), text)
}

#[test]
fn an_empty_deployment_shows_what_upstream_shows() {
    let decoded = deployment(
        r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a","creationTimestamp":null}}"#,
    )
    .expect("deployment");
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
            "spec": {"selector": null, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": null}}},
            "status": {},
        })
    );
}

#[test]
fn empty_optional_fields_are_dropped_and_pointers_kept() {
    let decoded = deployment(
        r#"{"metadata":{"name":"a","labels":{},"generation":0},
            "spec":{"replicas":0,"paused":false,"minReadySeconds":0,"selector":{},"template":{"spec":{"containers":[]}}}}"#,
    )
    .expect("deployment");
    assert_eq!(decoded.value["metadata"], json!({"name": "a"}));
    let spec = &decoded.value["spec"];
    assert_eq!((&spec["replicas"], &spec["selector"]), (&json!(0), &json!({})));
    assert!(spec.get("paused").is_none() && spec.get("minReadySeconds").is_none());
    assert_eq!(spec["template"]["spec"], json!({"containers": []}));
}

#[test]
fn scalars_are_brought_into_canonical_form() {
    let decoded = pod(&json!({
        "metadata": {"creationTimestamp": "2020-01-01T01:00:00.5+01:00"},
        "spec": {"containers": [{
            "name": "c",
            "resources": {"limits": {"cpu": 0.5, "memory": "1024Ki"}},
            "livenessProbe": {"httpGet": {"port": "http"}},
            "readinessProbe": {"httpGet": {"port": 80}},
        }]},
    }))
    .expect("pod");
    assert_eq!(decoded.value["metadata"]["creationTimestamp"], "2020-01-01T00:00:00Z");
    let container = &decoded.value["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"], json!({"cpu": "500m", "memory": "1Mi"}));
    assert_eq!(container["livenessProbe"]["httpGet"]["port"], "http");
    assert_eq!(container["readinessProbe"]["httpGet"]["port"], 80);
}

#[test]
fn null_elements_become_zero_values() {
    let decoded =
        pod(&json!({"metadata": {"labels": {"a": null}}, "spec": {"containers": [null]}})).expect("pod");
    assert_eq!(decoded.value["metadata"]["labels"], json!({"a": ""}));
    assert_eq!(decoded.value["spec"]["containers"], json!([{"name": "", "resources": {}}]));
}

#[test]
fn unknown_and_repeated_fields_are_reported_in_document_order() {
    let decoded = deployment(
        r#"{"zeta":1,"spec":{"foo":1,"replicas":1,"replicas":2,"Paused":true,
            "template":{"spec":{"containers":[{"name":"a"},{"name":"b","imagee":"x"}]}}},
            "metadata":{"labels":{"k":"1","k":"2"}},"alpha":{"deep":1}}"#,
    )
    .expect("deployment");
    assert_eq!(
        decoded.strict_errors,
        [
            r#"unknown field "zeta""#,
            r#"unknown field "spec.foo""#,
            r#"duplicate field "spec.replicas""#,
            r#"unknown field "spec.Paused""#,
            r#"unknown field "spec.template.spec.containers[1].imagee""#,
            r#"duplicate field "metadata.labels.k""#,
            r#"unknown field "alpha""#,
        ]
    );
    assert!(
        decoded
            .strict_error()
            .expect("error")
            .to_string()
            .starts_with(r#"strict decoding error: unknown field "zeta", unknown field "spec.foo", "#)
    );
    assert_eq!(decoded.value["spec"]["replicas"], 2);
    assert!(decoded.value["spec"].get("paused").is_none(), "names are case-sensitive");
}

#[test]
fn values_of_wrong_form_are_refused_with_the_struct_and_path() {
    for (text, message) in [
        (
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.5}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":4294967296}}"#,
            "json: cannot unmarshal number 4294967296 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"restartPolicy":5}}}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"metadata":{"creationTimestamp":5}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"livenessProbe":{"httpGet":5}}]}}}}"#,
            "json: cannot unmarshal number into Go struct field Probe.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet of type v1.HTTPGetAction",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (r#"{"spec":{"replicas":"3"}"#, "unexpected end of JSON input"),
    ] {
        assert_eq!(deployment(text).expect_err(text).to_string(), message, "{text}");
    }
}

#[test]
fn a_body_is_refused_as_the_kind_it_says_it_is() {
    let kind = GroupVersionKind::new("apps", "v1", "Deployment");
    let refuse = |text: &str| {
        let lookup = |gvk: &GroupVersionKind| schema::by_gvk(&gvk.group, &gvk.version, &gvk.kind);
        decode::object(text.as_bytes(), Format::Json, &kind, true, lookup)
            .expect_err(text)
            .message("Deployment", text.as_bytes())
    };
    assert_eq!(
        refuse(r#"{"kind":"Deployment","apiVersion":"apps/v1","spec":{"replicas":"3"}}"#),
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        refuse(r#"{"kind":"Deploymint","apiVersion":"apps/v1"}"#),
        "Deploymint in version \"v1\" cannot be handled as a Deployment: no kind \"Deploymint\" is registered for version \"apps/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    );
    assert_eq!(
        refuse("{\"kind\":"),
        "the object provided is unrecognized (must be of type Deployment): couldn't get version/kind; json parse error: unexpected end of JSON input ({\"kind\":)"
    );
}

#[test]
fn yaml_bodies_are_read_like_json_ones() {
    let of = schema::by_gvk("", "v1", "ConfigMap").expect("config map");
    let read = |text: &str| decode::typed(text.as_bytes(), Format::Yaml, &of, true);
    let decoded = read("kind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: |\n    v\n").expect("config map");
    assert_eq!(decoded.value, json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v\n"}}));
    assert_eq!(
        read("data: {a: 1}\n").expect_err("number").to_string(),
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    );
    let twice = read("data: {a: x}\ndata: {b: z}\n").expect("config map");
    assert_eq!(twice.strict_errors, ["yaml: unmarshal errors:\n  line 2: key \"data\" already set in map"]);
}

#[test]
fn a_schema_inside_a_definition_keeps_its_forms() {
    let of = schema::by_gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition").expect("crd");
    let schema = json!({
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"type": "string", "default": "x"}},
            "map": {"type": "object", "additionalProperties": true},
            "any": {"x-kubernetes-preserve-unknown-fields": true, "enum": [1, "a", null]},
        },
    });
    let crd = json!({"spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Cluster", "versions": [
        {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema.clone()}}
    ]}});
    let decoded = decode::typed(crd.to_string().as_bytes(), Format::Json, &of, true).expect("crd");
    assert_eq!(decoded.strict_errors, Vec::<String>::new());
    assert_eq!(decoded.value["spec"]["versions"][0]["schema"]["openAPIV3Schema"], schema);
}

#[test]
fn decoding_twice_changes_nothing() {
    for of in schema::all().filter(|of| of.gvk.is_some()) {
        let once = decode::normalize(&json!({}), &of, false).expect("empty object").value;
        let twice = decode::normalize(&once, &of, true).expect("again");
        assert_eq!((&twice.value, twice.strict_errors.len()), (&once, 0), "{}", of.name);
    }
}
