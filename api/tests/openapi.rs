//! What documents say about built-in and custom resources.

use std::sync::Arc;

use knarr_api::gvk::GroupVersionKind;
use knarr_api::openapi::{self, Resource};
use knarr_api::resources;
use serde_json::{Value, json};

fn document(group: &str, version: &str) -> Value {
    let resources: Vec<Resource> = resources::of_version(group, version).map(Resource::from).collect();
    serde_json::from_slice(&openapi::v3(&resources, "v1.37.0")).expect("json")
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn a_pod_is_described_as_upstream_describes_it() {
    let core = document("", "v1");
    let schemas = &core["components"]["schemas"];
    let pod = &schemas["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["x-kubernetes-group-version-kind"],
        json!([{"group": "", "kind": "Pod", "version": "v1"}])
    );
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
    assert_eq!(spec["required"], json!(["containers"]));
    let mut containers = spec["properties"]["containers"].clone();
    assert!(containers["description"].as_str().expect("text").starts_with("List of containers"));
    containers.as_object_mut().expect("object").remove("description");
    assert_eq!(
        containers,
        json!({
            "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}, "type": "array",
            "x-kubernetes-list-map-keys": ["name"], "x-kubernetes-list-type": "map",
            "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
        })
    );
    assert_eq!(schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"], "TCP");
    let get = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["get"];
    assert_eq!(get["operationId"], "readCoreV1NamespacedPod");
    assert_eq!(get["x-kubernetes-action"], "get");
}

#[test]
fn every_reference_in_every_document_resolves() {
    for group in resources::groups() {
        for version in &group.versions {
            let document = document(group.name, version);
            let mut found = Vec::new();
            references(&document, &mut found);
            for reference in found {
                let path = reference.strip_prefix("#/components/schemas/").expect("local reference");
                assert!(document["components"]["schemas"].get(path).is_some(), "{reference}");
            }
        }
    }
    let all: Vec<Resource> = resources::all().iter().map(Resource::from).collect();
    let bytes = openapi::v2(&all, "v1.37.0");
    let document: Value = serde_json::from_slice(&bytes).expect("json");
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let path = reference.strip_prefix("#/definitions/").expect("local reference");
        assert!(document["definitions"].get(path).is_some(), "{reference}");
    }
}

#[test]
fn a_custom_resource_is_described_by_its_own_schema() {
    let kind = GroupVersionKind::new("example.com", "v1", "Toy");
    let toy = |schema: Value| {
        Resource::custom(kind.clone(), "toys", "ToyList", true, Some(Arc::new(schema)))
            .with_status()
            .with_scale()
    };
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object"}}});
    let resource = toy(schema);
    let document: Value =
        serde_json::from_slice(&openapi::v3(std::slice::from_ref(&resource), "v1.37.0")).expect("json");
    let paths = &document["paths"];
    let path = "/apis/example.com/v1/namespaces/{namespace}/toys/{name}";
    assert_eq!(paths[path]["patch"]["operationId"], "patchExampleComV1NamespacedToy");
    let scale = &paths[format!("{path}/scale")]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    assert!(paths.get("/apis/example.com/v1/watch/toys").is_none());
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["com.example.v1.Toy"]["x-kubernetes-group-version-kind"][0]["kind"], "Toy");
    let item = &schemas["com.example.v1.ToyList"]["properties"]["items"]["items"];
    assert_eq!(item["$ref"], "#/components/schemas/com.example.v1.Toy");
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let name = reference.strip_prefix("#/components/schemas/").expect("local reference");
        assert!(schemas.get(name).is_some(), "{reference}");
    }
    let before = openapi::fingerprint(&[resource], "v1.37.0");
    assert_ne!(openapi::fingerprint(&[toy(json!({"type": "object"}))], "v1.37.0"), before);
}

/// The fields of a protobuf message that are bytes, by number.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = message.split_first().expect("a whole number");
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let tag = varint(&mut message);
        assert_eq!(tag & 7, 2, "documents and maps have members of bytes only");
        let length = varint(&mut message) as usize;
        let (content, rest) = message.split_at(length);
        message = rest;
        found.push((tag >> 3, content));
    }
    found
}

fn names(message: &[u8], number: u64) -> Vec<String> {
    let entries = fields(message).into_iter().filter(|(found, _)| *found == number);
    entries.map(|(_, entry)| String::from_utf8(fields(entry)[0].1.to_vec()).expect("a name")).collect()
}

#[test]
fn the_protobuf_form_says_what_the_json_form_says() {
    let resources: Vec<Resource> = resources::of_version("apps", "v1").map(Resource::from).collect();
    let json: Value = serde_json::from_slice(&openapi::v2(&resources, "v1.37.0")).expect("json");
    let bytes = openapi::v2_protobuf(&resources, "v1.37.0");
    let document = fields(&bytes);
    let member = |number| document.iter().find(|(found, _)| *found == number).expect("a member").1;
    assert_eq!(member(1), b"2.0");
    let keys = |name: &str| -> Vec<String> { json[name].as_object().expect(name).keys().cloned().collect() };
    assert_eq!(names(member(8), 2), keys("paths"));
    assert_eq!(names(member(9), 1), keys("definitions"));
}
