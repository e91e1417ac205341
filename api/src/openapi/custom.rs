//! Definitions of custom resources: the schema of their definition with what every object has, and cut down to what
//! version 2 can say.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::Version;
use super::definition;
use super::descriptions::Descriptions;
use crate::gvk::GroupVersionKind;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Built-in types that the definitions of custom resources refer to.
pub(super) const REFERRED: &[&str] = &[OBJECT_META, LIST_META];

/// What is said of the fields that every object has: the same of custom resources as of built-in ones.
struct Common {
    api_version: String,
    kind: String,
    metadata: String,
    list_metadata: String,
}

static COMMON: LazyLock<Common> = LazyLock::new(|| {
    let descriptions = Descriptions::unpack();
    let mut object = descriptions.of("io.k8s.api.core.v1.Pod");
    let mut list = descriptions.of("io.k8s.api.core.v1.PodList");
    Common {
        api_version: object.remove("apiVersion").unwrap_or_default(),
        kind: object.remove("kind").unwrap_or_default(),
        metadata: object.remove("metadata").unwrap_or_default(),
        list_metadata: list.remove("metadata").unwrap_or_default(),
    }
});

/// `com.example.v1.Toy` for a Toy of `example.com/v1`.
pub(super) fn name(kind: &GroupVersionKind) -> String {
    let group: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), kind.version, kind.kind)
}

/// The definition of an object. Without a schema nothing is said about its fields, because old clients take what is
/// not said for forbidden.
pub(super) fn object(kind: &GroupVersionKind, schema: Option<&Value>, version: Version) -> Value {
    let preserves = |schema: &Value| flag(schema, "x-kubernetes-preserve-unknown-fields");
    let mut out = match schema {
        None => json!({"type": "object"}),
        Some(schema) if version == Version::V2 && preserves(schema) => json!({"type": "object"}),
        Some(schema) => {
            let mut out = schema.clone();
            if version == Version::V2 {
                reduce(&mut out);
            }
            embed(&mut out, version);
            set_meta(&mut out, version, OBJECT_META, &COMMON.metadata);
            out
        }
    };
    out["x-kubernetes-group-version-kind"] = json!([definition::kind(kind)]);
    out
}

/// The definition of a list of objects.
pub(super) fn list(
    kind: &GroupVersionKind,
    item: &GroupVersionKind,
    plural: &str,
    version: Version,
) -> Value {
    let mut out = json!({
        "description": format!("{} is a list of {}", kind.kind, item.kind),
        "type": "object",
        "required": ["items"],
        "properties": {"items": {
            "description": format!(
                "List of {plural}. More info: \
                 https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
            ),
            "type": "array",
            "items": version.reference(&name(item)),
        }},
        "x-kubernetes-group-version-kind": [definition::kind(kind)],
    });
    set_meta(&mut out, version, LIST_META, &COMMON.list_metadata);
    out
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn set_meta(schema: &mut Value, version: Version, metadata: &str, description: &str) {
    let Value::Object(schema) = schema else { return };
    let reference = match version {
        Version::V2 => version.reference(metadata),
        Version::V3 => json!({"allOf": [version.reference(metadata)]}),
    };
    let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if !properties.is_object() {
        *properties = Value::Object(Map::new());
    }
    properties["apiVersion"] = json!({"type": "string", "description": COMMON.api_version});
    properties["kind"] = json!({"type": "string", "description": COMMON.kind});
    properties["metadata"] = reference;
    properties["metadata"]["description"] = description.into();
}

/// Visits the schemas inside a schema.
fn children(schema: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(&mut *visit);
    }
    for name in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(name).filter(|child| child.is_object()) {
            visit(child);
        }
    }
}

/// Embedded resources have what every object has.
fn embed(schema: &mut Value, version: Version) {
    children(schema, &mut |child| embed(child, version));
    if version == Version::V2 && flag(schema, "x-kubernetes-preserve-unknown-fields") {
        return;
    }
    if flag(schema, "x-kubernetes-embedded-resource") {
        set_meta(schema, version, OBJECT_META, &COMMON.metadata);
        let mut required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|known| known == name) {
                required.push(Value::from(name));
            }
        }
        schema["required"] = Value::Array(required);
    }
}

/// Leaves out what version 2, or kubectl's reading of it, cannot express.
fn reduce(schema: &mut Value) {
    drop_required_nullables(schema);
    if let Value::Object(map) = schema {
        for name in ["allOf", "oneOf", "anyOf", "not"] {
            map.remove(name);
        }
        let nullable = map.remove("nullable").is_some_and(|nullable| nullable == true);
        let preserves =
            map.get("x-kubernetes-preserve-unknown-fields").is_some_and(|preserves| *preserves == true);
        if nullable || preserves {
            map.remove("items");
            map.remove("properties");
        }
        let form = map.get("type").and_then(Value::as_str);
        let endless = form == Some("array") && !map.contains_key("items");
        if nullable || endless || (preserves && form == Some("object")) {
            map.remove("type");
        }
    }
    children(schema, &mut reduce);
}

fn drop_required_nullables(schema: &mut Value) {
    let nullable = |name: &Value| {
        let property = name.as_str().and_then(|name| schema.get("properties")?.get(name));
        property.is_some_and(|property| flag(property, "nullable"))
    };
    let Some(required) = schema.get("required").and_then(Value::as_array) else { return };
    let kept: Vec<Value> = required.iter().filter(|name| !nullable(name)).cloned().collect();
    if kept.is_empty() {
        if let Value::Object(map) = schema {
            map.remove("required");
        }
    } else {
        schema["required"] = Value::Array(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_loses_what_it_cannot_say() {
        let kind = GroupVersionKind::new("example.com", "v1", "Toy");
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }});
        let two = object(&kind, Some(&schema), Version::V2);
        assert_eq!(two["properties"]["a"], json!({}));
        assert_eq!(two["properties"]["b"], json!({"x-kubernetes-int-or-string": true}));
        assert_eq!(two["properties"]["c"], json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(two["required"], json!(["b"]));
        let three = object(&kind, Some(&schema), Version::V3);
        assert_eq!(three["properties"]["a"]["nullable"], true);
        assert!(three["properties"]["metadata"]["allOf"].is_array());
    }

    #[test]
    fn common_fields_are_explained_as_those_of_built_in_kinds() {
        let kind = GroupVersionKind::new("example.com", "v1", "Toy");
        let toy = object(&kind, Some(&json!({"type": "object"})), Version::V3);
        let said = |field: &str| toy["properties"][field]["description"].as_str().unwrap().to_owned();
        assert!(said("apiVersion").starts_with("APIVersion defines"), "{}", said("apiVersion"));
        assert!(said("kind").starts_with("Kind is a string value"), "{}", said("kind"));
        assert!(said("metadata").starts_with("Standard object's metadata."), "{}", said("metadata"));
    }
}
