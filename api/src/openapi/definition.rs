//! The schema of a type.

use serde_json::{Map, Value, json};

use super::Version;
use super::descriptions::Descriptions;
use crate::gvk::GroupVersionKind;
use crate::schema::{Field, List, ListKind, Omit, Shape, Type, TypeRef, Union};

pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
pub(super) const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
pub(super) const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";
pub(super) const DURATION: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Duration";
pub(super) const FIELDS_V1: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
pub(super) const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
pub(super) const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";

/// The schema of a type; `kinds` are the coordinates it is known by beside its own.
pub(super) fn of_type(
    of: &Type,
    version: Version,
    texts: &Descriptions,
    kinds: &[GroupVersionKind],
) -> Value {
    let texts = texts.of(&of.name);
    let mut schema = match scalar(&of.name, version) {
        Some(schema) => schema,
        None if !of.one_of.is_empty() => Map::new(),
        None => structure(of, version, &|field| texts.get(field).map(String::as_str)),
    };
    if let Some(text) = texts.get("") {
        schema.insert("description".to_owned(), Value::from(text.as_str()));
    }
    let kinds: Vec<Value> = of.gvk.iter().chain(kinds).map(kind).collect();
    if !kinds.is_empty() {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
    }
    Value::Object(schema)
}

pub(super) fn kind(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

/// Types that are no structs in JSON.
fn scalar(name: &str, version: Version) -> Option<Map<String, Value>> {
    let schema = match (name, version) {
        (QUANTITY, Version::V2) => json!({"type": "string"}),
        (QUANTITY, Version::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (INT_OR_STRING, Version::V2) => json!({"type": "string", "format": "int-or-string"}),
        (INT_OR_STRING, Version::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        (TIME | MICRO_TIME, _) => json!({"type": "string", "format": "date-time"}),
        (DURATION, _) => json!({"type": "string"}),
        (FIELDS_V1 | PATCH | RAW_EXTENSION, _) => json!({"type": "object"}),
        (JSON, _) => json!({}),
        _ => return None,
    };
    match schema {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn structure<'a>(of: &Type, version: Version, text: &dyn Fn(&str) -> Option<&'a str>) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), Value::from("object"));
    if !of.fields.is_empty() {
        let property =
            |field: &Field| (field.name.to_string(), property(of, field, version, text(&field.name)));
        schema.insert("properties".to_owned(), Value::Object(of.fields.iter().map(property).collect()));
    }
    let required: Vec<Value> = of
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| Value::from(field.name.as_ref()))
        .collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), Value::Array(required));
    }
    if of.atomic {
        schema.insert("x-kubernetes-map-type".to_owned(), Value::from("atomic"));
    }
    if let Some(union) = &of.union {
        schema.insert("x-kubernetes-unions".to_owned(), unions(of, union));
    }
    schema
}

fn unions(of: &Type, union: &Union) -> Value {
    let is_discriminator = |field: &Field| union.discriminator.as_deref() == Some(field.name.as_ref());
    let members: Map<String, Value> = of
        .fields
        .iter()
        .filter(|field| !is_discriminator(field))
        .map(|field| (field.name.to_string(), Value::from(capitalized(&field.name))))
        .collect();
    let mut entry = Map::new();
    if let Some(discriminator) = &union.discriminator {
        entry.insert("discriminator".to_owned(), Value::from(discriminator.as_ref()));
    }
    entry.insert("fields-to-discriminateBy".to_owned(), Value::Object(members));
    json!([entry])
}

pub(super) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn property(of: &Type, field: &Field, version: Version, text: Option<&str>) -> Value {
    let mut schema = shape(of, &field.shape, version);
    if let Some(text) = text {
        schema.insert("description".to_owned(), Value::from(text));
    }
    if !field.enumeration.is_empty() {
        enumerate(&mut schema, field);
    }
    if let Shape::List(list) = &field.shape {
        list_marks(&mut schema, list);
    }
    if let Some(atomic) = field.atomic {
        let mark = if atomic { "atomic" } else { "granular" };
        schema.insert("x-kubernetes-map-type".to_owned(), Value::from(mark));
    }
    patch_marks(&mut schema, field);
    if version == Version::V3 {
        if let Some(default) = default(field) {
            schema.insert("default".to_owned(), default);
        }
        wrap_reference(&mut schema);
    }
    Value::Object(schema)
}

fn enumerate(schema: &mut Map<String, Value>, field: &Field) {
    let values: Vec<Value> = field.enumeration.iter().map(|value| Value::from(value.as_ref())).collect();
    let target = match &field.shape {
        Shape::List(_) => schema.get_mut("items").and_then(Value::as_object_mut),
        Shape::Map(_) => schema.get_mut("additionalProperties").and_then(Value::as_object_mut),
        _ => Some(schema),
    };
    if let Some(target) = target {
        target.insert("enum".to_owned(), Value::Array(values));
    }
}

fn list_marks(schema: &mut Map<String, Value>, list: &List) {
    if !list.declared {
        return;
    }
    let name = match list.kind {
        ListKind::Atomic => "atomic",
        ListKind::Set => "set",
        ListKind::Map => "map",
    };
    schema.insert("x-kubernetes-list-type".to_owned(), Value::from(name));
    if !list.keys.is_empty() {
        let keys = list.keys.iter().map(|key| Value::from(key.as_ref())).collect();
        schema.insert("x-kubernetes-list-map-keys".to_owned(), Value::Array(keys));
    }
}

fn patch_marks(schema: &mut Map<String, Value>, field: &Field) {
    let strategy = field.patch;
    let names =
        [("merge", strategy.merge), ("retainKeys", strategy.retain_keys), ("replace", strategy.replace)];
    let names: Vec<&str> = names.into_iter().filter_map(|(name, set)| set.then_some(name)).collect();
    if !names.is_empty() {
        schema.insert("x-kubernetes-patch-strategy".to_owned(), Value::from(names.join(",")));
    }
    if let Some(key) = &field.patch_merge_key {
        schema.insert("x-kubernetes-patch-merge-key".to_owned(), Value::from(key.as_ref()));
    }
}

/// The declared default, or the zero value of a field that is always there.
fn default(field: &Field) -> Option<Value> {
    if let Some(default) = &field.default {
        return Some(default.clone());
    }
    if field.pointer {
        return None;
    }
    match &field.shape {
        Shape::Struct(_) => Some(json!({})),
        Shape::String if field.omit == Omit::Never => Some(Value::from("")),
        Shape::Bool if field.omit == Omit::Never => Some(Value::from(false)),
        Shape::Int32 | Shape::Int64 | Shape::Number if field.omit == Omit::Never => Some(Value::from(0)),
        _ => None,
    }
}

/// In version 3 nothing may stand beside a reference.
fn wrap_reference(schema: &mut Map<String, Value>) {
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        schema.insert("allOf".to_owned(), json!([{ "$ref": reference }]));
    }
}

fn shape(of: &Type, shape: &Shape, version: Version) -> Map<String, Value> {
    let schema = match shape {
        Shape::String | Shape::Duration => json!({"type": "string"}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int32 => json!({"type": "integer", "format": "int32"}),
        Shape::Int64 => json!({"type": "integer", "format": "int64"}),
        Shape::Number => json!({"type": "number", "format": "double"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::List(list) => json!({"type": "array", "items": self::shape(of, &list.item, version)}),
        Shape::Map(map) => {
            json!({"type": "object", "additionalProperties": self::shape(of, &map.value, version)})
        }
        referring => version.reference(referred(of, referring).unwrap_or_default()),
    };
    match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The name of the type that a shape refers to.
fn referred<'a>(owner: &Type, shape: &'a Shape) -> Option<&'a str> {
    Some(match shape {
        Shape::Time => TIME,
        Shape::MicroTime => MICRO_TIME,
        Shape::Quantity => QUANTITY,
        Shape::IntOrString => INT_OR_STRING,
        Shape::Any => JSON,
        Shape::Object if owner.short_name() == "ManagedFieldsEntry" => FIELDS_V1,
        Shape::Object => RAW_EXTENSION,
        Shape::OneOf(of) | Shape::Struct(of) => &of.name,
        Shape::List(list) => return referred(owner, &list.item),
        Shape::Map(map) => return referred(owner, &map.value),
        _ => return None,
    })
}

/// The types that a type's schema refers to.
pub(super) fn references(of: &Type) -> Vec<TypeRef> {
    let names = of.fields.iter().filter_map(|field| referred(of, &field.shape));
    names.filter_map(crate::schema::by_name).collect()
}
