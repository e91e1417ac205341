//! Version 2 in protobuf, the form that client-go asks for (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
//! The messages are those of `gnostic.openapi.v2`; only what our documents contain is written.

use std::convert::Infallible;

use serde_json::{Map, Value};

use crate::protobuf::Writer;

type Object = Map<String, Value>;

/// Writes a document member by member, as its JSON form is written.
pub(super) struct Document {
    writer: Writer,
}

impl Document {
    pub(super) fn begin(info: &Value) -> Self {
        let mut writer = Writer::default();
        writer.bytes_field(1, b"2.0");
        nested(&mut writer, 2, |writer| {
            text(writer, 1, info.get("title"));
            text(writer, 2, info.get("version"));
        });
        Self { writer }
    }

    pub(super) fn paths(&mut self, paths: impl Iterator<Item = (String, Value)>) {
        nested(&mut self.writer, 8, |writer| {
            for (path, item) in paths {
                named(writer, 2, &path, |writer| path_item(writer, &item));
            }
        });
    }

    pub(super) fn definitions(&mut self, definitions: impl Iterator<Item = (String, Value)>) {
        nested(&mut self.writer, 9, |writer| {
            for (name, definition) in definitions {
                named(writer, 1, &name, |writer| schema(writer, &definition));
            }
        });
    }

    pub(super) fn finish(mut self, security: &Value) -> Vec<u8> {
        for name in object(security).keys() {
            nested(&mut self.writer, 12, |writer| named(writer, 1, name, |_| ()));
        }
        nested(&mut self.writer, 13, |writer| {
            for (name, scheme) in object(security) {
                named(writer, 1, name, |writer| api_key(writer, scheme));
            }
        });
        self.writer.into_bytes()
    }
}

fn nested(writer: &mut Writer, number: u32, content: impl FnOnce(&mut Writer)) {
    let done: Result<(), Infallible> = writer.nested(number, |writer| {
        content(writer);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// An entry of a map: the name as field 1, the value as field 2.
fn named(writer: &mut Writer, number: u32, name: &str, value: impl FnOnce(&mut Writer)) {
    nested(writer, number, |writer| {
        writer.bytes_field(1, name.as_bytes());
        nested(writer, 2, value);
    });
}

fn object(value: &Value) -> &Object {
    static EMPTY: std::sync::LazyLock<Object> = std::sync::LazyLock::new(Object::new);
    value.as_object().unwrap_or(&EMPTY)
}

fn text(writer: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(text) = value.and_then(Value::as_str) {
        writer.bytes_field(number, text.as_bytes());
    }
}

fn texts(writer: &mut Writer, number: u32, value: Option<&Value>) {
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        text(writer, number, Some(item));
    }
}

fn flag(writer: &mut Writer, number: u32, value: Option<&Value>) {
    if value.and_then(Value::as_bool) == Some(true) {
        writer.varint_field(number, 1);
    }
}

fn double(writer: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(value) = value.and_then(Value::as_f64) {
        writer.fixed64_field(number, value.to_bits());
    }
}

fn int(writer: &mut Writer, number: u32, value: Option<&Value>) {
    if let Some(value) = value.and_then(Value::as_i64) {
        writer.varint_field(number, value as u64);
    }
}

/// A value of any form travels as YAML, which JSON is.
fn any(writer: &mut Writer, number: u32, value: &Value) {
    nested(writer, number, |writer| writer.bytes_field(2, format!("{value}\n").as_bytes()));
}

/// Members whose names begin with `x-`.
fn extensions(writer: &mut Writer, number: u32, map: &Object) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        nested(writer, number, |writer| {
            writer.bytes_field(1, name.as_bytes());
            any(writer, 2, value);
        });
    }
}

fn path_item(writer: &mut Writer, item: &Value) {
    let map = object(item);
    for (number, method) in (2..).zip(["get", "put", "post", "delete", "options", "head", "patch"]) {
        if let Some(operation) = map.get(method) {
            nested(writer, number, |writer| self::operation(writer, operation));
        }
    }
    parameters(writer, 9, map);
    extensions(writer, 10, map);
}

fn operation(writer: &mut Writer, operation: &Value) {
    let map = object(operation);
    texts(writer, 1, map.get("tags"));
    text(writer, 3, map.get("description"));
    text(writer, 5, map.get("operationId"));
    texts(writer, 6, map.get("produces"));
    texts(writer, 7, map.get("consumes"));
    parameters(writer, 8, map);
    if let Some(responses) = map.get("responses") {
        nested(writer, 9, |writer| {
            for (code, response) in object(responses) {
                named(writer, 1, code, |writer| nested(writer, 1, |writer| self::response(writer, response)));
            }
        });
    }
    texts(writer, 10, map.get("schemes"));
    extensions(writer, 13, map);
}

fn response(writer: &mut Writer, response: &Value) {
    let map = object(response);
    text(writer, 1, map.get("description"));
    if let Some(schema) = map.get("schema") {
        nested(writer, 2, |writer| nested(writer, 1, |writer| self::schema(writer, schema)));
    }
}

fn parameters(writer: &mut Writer, number: u32, map: &Object) {
    for parameter in map.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        // Each is wrapped twice: not a reference, and then which kind of parameter.
        nested(writer, number, |writer| {
            nested(writer, 1, |writer| self::parameter(writer, object(parameter)))
        });
    }
}

fn parameter(writer: &mut Writer, map: &Object) {
    match map.get("in").and_then(Value::as_str) {
        Some("body") => nested(writer, 1, |writer| {
            text(writer, 2, map.get("name"));
            text(writer, 3, map.get("in"));
            flag(writer, 4, map.get("required"));
            if let Some(schema) = map.get("schema") {
                nested(writer, 5, |writer| self::schema(writer, schema));
            }
        }),
        place => {
            // Query parameters may be empty, which moves what follows by one.
            let (kind, shift) = if place == Some("path") { (4, 0) } else { (3, 1) };
            nested(writer, 2, |writer| {
                nested(writer, kind, |writer| {
                    flag(writer, 1, map.get("required"));
                    text(writer, 2, map.get("in"));
                    text(writer, 3, map.get("description"));
                    text(writer, 4, map.get("name"));
                    text(writer, 5 + shift, map.get("type"));
                    flag(writer, 19 + shift, map.get("uniqueItems"));
                });
            });
        }
    }
}

fn schema(writer: &mut Writer, schema: &Value) {
    let map = object(schema);
    text(writer, 1, map.get("$ref"));
    text(writer, 2, map.get("format"));
    text(writer, 3, map.get("title"));
    text(writer, 4, map.get("description"));
    if let Some(default) = map.get("default") {
        any(writer, 5, default);
    }
    double(writer, 6, map.get("multipleOf"));
    double(writer, 7, map.get("maximum"));
    flag(writer, 8, map.get("exclusiveMaximum"));
    double(writer, 9, map.get("minimum"));
    flag(writer, 10, map.get("exclusiveMinimum"));
    int(writer, 11, map.get("maxLength"));
    int(writer, 12, map.get("minLength"));
    text(writer, 13, map.get("pattern"));
    int(writer, 14, map.get("maxItems"));
    int(writer, 15, map.get("minItems"));
    flag(writer, 16, map.get("uniqueItems"));
    int(writer, 17, map.get("maxProperties"));
    int(writer, 18, map.get("minProperties"));
    texts(writer, 19, map.get("required"));
    for value in map.get("enum").and_then(Value::as_array).into_iter().flatten() {
        any(writer, 20, value);
    }
    match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => nested(writer, 21, |writer| writer.varint_field(2, (*allowed).into())),
        Some(additional) => {
            nested(writer, 21, |writer| nested(writer, 1, |writer| self::schema(writer, additional)))
        }
        None => {}
    }
    if let Some(form) = map.get("type") {
        nested(writer, 22, |writer| text(writer, 1, Some(form)));
    }
    if let Some(items) = map.get("items") {
        nested(writer, 23, |writer| nested(writer, 1, |writer| self::schema(writer, items)));
    }
    if let Some(properties) = map.get("properties") {
        nested(writer, 25, |writer| {
            for (name, property) in object(properties) {
                named(writer, 1, name, |writer| self::schema(writer, property));
            }
        });
    }
    extensions(writer, 31, map);
}

fn api_key(writer: &mut Writer, scheme: &Value) {
    let map = object(scheme);
    nested(writer, 2, |writer| {
        for (number, name) in (1..).zip(["type", "name", "in", "description"]) {
            text(writer, number, map.get(name));
        }
    });
}
