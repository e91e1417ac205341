//! From `openAPIV3Schema`, as the definition holds it, to a [`Structural`].

use serde_json::{Map, Value};

use super::{Additional, Constraints, Form, Pattern, Structural};
use crate::schema::ListKind;

impl Structural {
    /// Reads a schema that the definition's own type has already checked for form.
    pub fn parse(schema: &Value) -> Self {
        let Value::Object(map) = schema else { return Self::default() };
        let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
        Self {
            form: text(map, "type").and_then(form),
            properties: named(map, "properties").collect(),
            additional: map.get("additionalProperties").and_then(additional),
            items: map
                .get("items")
                .filter(|items| items.is_object())
                .map(|items| Box::new(Self::parse(items))),
            nullable: flag("nullable"),
            default: map.get("default").filter(|default| !default.is_null()).cloned(),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_type: text(map, "x-kubernetes-list-type").and_then(list_kind),
            list_map_keys: texts(map, "x-kubernetes-list-map-keys"),
            atomic: text(map, "x-kubernetes-map-type") == Some("atomic"),
            rules: values(map, "x-kubernetes-validations").to_vec(),
            constraints: constraints(map),
        }
    }
}

fn form(name: &str) -> Option<Form> {
    Some(match name {
        "object" => Form::Object,
        "array" => Form::Array,
        "string" => Form::String,
        "integer" => Form::Integer,
        "number" => Form::Number,
        "boolean" => Form::Boolean,
        _ => return None,
    })
}

fn list_kind(name: &str) -> Option<ListKind> {
    Some(match name {
        "atomic" => ListKind::Atomic,
        "set" => ListKind::Set,
        "map" => ListKind::Map,
        _ => return None,
    })
}

fn additional(value: &Value) -> Option<Additional> {
    match value {
        Value::Bool(allowed) => Some(Additional::Allowed(*allowed)),
        Value::Object(_) => Some(Additional::Of(Box::new(Structural::parse(value)))),
        _ => None,
    }
}

/// None when nothing is constrained, which is so for most nodes.
fn constraints(map: &Map<String, Value>) -> Option<Box<Constraints>> {
    const NAMES: &[&str] = &[
        "format",
        "maximum",
        "minimum",
        "multipleOf",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxProperties",
        "minProperties",
        "required",
        "enum",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
    ];
    if !NAMES.iter().any(|name| map.contains_key(*name)) {
        return None;
    }
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let int = |name: &str| map.get(name).and_then(Value::as_i64);
    let float = |name: &str| map.get(name).and_then(Value::as_f64);
    let all = |name: &str| values(map, name).iter().map(Structural::parse).collect();
    Some(Box::new(Constraints {
        format: text(map, "format").unwrap_or_default().to_owned(),
        maximum: float("maximum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        minimum: float("minimum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        multiple_of: float("multipleOf"),
        max_length: int("maxLength"),
        min_length: int("minLength"),
        pattern: text(map, "pattern")
            .filter(|text| !text.is_empty())
            .map(|text| Pattern::new(text.to_owned())),
        max_items: int("maxItems"),
        min_items: int("minItems"),
        unique_items: flag("uniqueItems"),
        max_properties: int("maxProperties"),
        min_properties: int("minProperties"),
        required: texts(map, "required"),
        enumeration: values(map, "enum").to_vec(),
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: map.get("not").filter(|not| not.is_object()).map(|not| Box::new(Structural::parse(not))),
    }))
}

fn named<'a>(map: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (String, Structural)> + 'a {
    let members = map.get(name).and_then(Value::as_object);
    members.into_iter().flatten().map(|(name, schema)| (name.clone(), Structural::parse(schema)))
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    map.get(name).and_then(Value::as_str)
}

fn values<'a>(map: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    map.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn texts(map: &Map<String, Value>, name: &str) -> Vec<String> {
    values(map, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
