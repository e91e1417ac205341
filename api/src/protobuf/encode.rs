//! From a JSON value in its canonical form to a message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::Writer;
use super::{MAGIC, ProtobufError, envelope};
use crate::decode::{TypeMeta, canonical};
use crate::schema::{Field, Shape, Type};

type Step<T> = Result<T, ProtobufError>;

/// Writes an object with its envelope. The kind is taken from the object itself.
///
/// # Errors
/// A type without protobuf form, or a value that does not have its type's form.
pub fn encode(object: &Value, of: &Type) -> Step<Vec<u8>> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let meta = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    let mut writer = Writer::with_prefix(MAGIC, 1024);
    envelope::write(&mut writer, &meta, |writer| top(writer, object, of))?;
    Ok(writer.into_bytes())
}

/// Writes an object's own message without an envelope, as it stands in a list's `items`.
pub fn message(object: &Value, of: &Type) -> Step<Vec<u8>> {
    let mut writer = Writer::default();
    top(&mut writer, object, of)?;
    Ok(writer.into_bytes())
}

/// The message of one watch event; `object` is an encoded object with its envelope. In a stream each event follows
/// its length as four bytes, most significant first.
pub fn watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Writer::with_prefix(&[], object.len() + 8);
    raw.bytes_field(1, object);
    let raw = raw.into_bytes();
    let mut writer = Writer::with_prefix(&[], raw.len() + 24);
    writer.bytes_field(1, event_type.as_bytes());
    writer.bytes_field(2, &raw);
    writer.into_bytes()
}

fn top(writer: &mut Writer, object: &Value, of: &Type) -> Step<()> {
    if !of.protobuf {
        return Err(ProtobufError::NotMarshalable(of.name.clone().into_owned()));
    }
    let Value::Object(map) = object else { return Err(unfit(&of.name, object)) };
    structure(writer, map, of)
}

/// Writes fields that share the first `level` embedded structs.
fn members(writer: &mut Writer, map: &Map<String, Value>, fields: &[&Field], level: usize) -> Step<()> {
    let via = |field: &Field| field.wire.as_ref().and_then(|wire| wire.via.get(level).copied());
    for group in fields.chunk_by(|one, next| via(one).is_some() && via(one) == via(next)) {
        if let Some(number) = via(group[0]) {
            if group.iter().any(|field| map.contains_key(field.name.as_ref())) {
                writer.nested(number, |writer| members(writer, map, group, level + 1))?;
            }
            continue;
        }
        let field = group[0];
        if let (Some(wire), Some(value)) = (&field.wire, map.get(field.name.as_ref()))
            && !value.is_null()
        {
            member(writer, wire.number, wire.wrapped, field, value)?;
        }
    }
    Ok(())
}

fn structure(writer: &mut Writer, map: &Map<String, Value>, of: &Type) -> Step<()> {
    members(writer, map, &of.wire_fields().collect::<Vec<_>>(), 0)
}

fn member(writer: &mut Writer, number: u32, wrapped: bool, field: &Field, value: &Value) -> Step<()> {
    match (&field.shape, value) {
        (Shape::List(list), Value::Array(items)) if wrapped => {
            writer.nested(number, |writer| elements(writer, 1, &list.item, &field.name, items))
        }
        (Shape::List(list), Value::Array(items)) => elements(writer, number, &list.item, &field.name, items),
        (Shape::Map(map), Value::Object(entries)) => {
            for (key, value) in entries {
                writer.nested(number, |writer| {
                    writer.bytes_field(1, key.as_bytes());
                    match (&map.value, value) {
                        (Shape::List(list), Value::Array(items)) => {
                            writer.nested(2, |writer| elements(writer, 1, &list.item, &field.name, items))
                        }
                        (shape, value) => write(writer, 2, shape, &field.name, value),
                    }
                })?;
            }
            Ok(())
        }
        (shape, value) => write(writer, number, shape, &field.name, value),
    }
}

fn elements(writer: &mut Writer, number: u32, shape: &Shape, name: &str, items: &[Value]) -> Step<()> {
    items.iter().try_for_each(|item| match item {
        // Elements have no absence: null stands for the zero value.
        Value::Null => write(writer, number, shape, name, &canonical::of_shape(shape)),
        item => write(writer, number, shape, name, item),
    })
}

fn write(writer: &mut Writer, number: u32, shape: &Shape, name: &str, value: &Value) -> Step<()> {
    match (shape, value) {
        (Shape::String, Value::String(text)) => writer.bytes_field(number, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| unfit(name, value))?;
            writer.bytes_field(number, &bytes);
        }
        (Shape::Bool, Value::Bool(set)) => writer.varint_field(number, (*set).into()),
        (Shape::Int32 | Shape::Int64, Value::Number(int)) => {
            let int = int.as_i64().ok_or_else(|| unfit(name, value))?;
            writer.varint_field(number, int as u64);
        }
        (Shape::Number, Value::Number(float)) => {
            let float = float.as_f64().ok_or_else(|| unfit(name, value))?;
            writer.fixed64_field(number, float.to_bits());
        }
        (Shape::Struct(of), Value::Object(map)) => {
            return writer.nested(number, |writer| structure(writer, map, of));
        }
        (Shape::OneOf(of), value) => return writer.nested(number, |writer| one_of(writer, of, name, value)),
        (Shape::Any | Shape::Object, value) => {
            return writer.nested(number, |writer| {
                writer.bytes_field(1, value.to_string().as_bytes());
                Ok(())
            });
        }
        (_, Value::Null) => return writer.nested(number, |_| Ok(())),
        (Shape::Quantity, Value::String(text)) => {
            return writer.nested(number, |writer| {
                writer.bytes_field(1, text.as_bytes());
                Ok(())
            });
        }
        (Shape::Quantity, Value::Number(amount)) => {
            return write(writer, number, shape, name, &Value::String(amount.to_string()));
        }
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            let (seconds, nanos) = canonical::instant(text).ok_or_else(|| unfit(name, value))?;
            return writer.nested(number, |writer| {
                writer.varint_field(1, seconds as u64);
                writer.varint_field(2, i64::from(nanos) as u64);
                Ok(())
            });
        }
        (Shape::Duration, Value::String(text)) => {
            let nanos = crate::duration::parse(text).map_err(|_| unfit(name, value))?;
            return writer.nested(number, |writer| {
                writer.varint_field(1, nanos as u64);
                Ok(())
            });
        }
        (Shape::IntOrString, value) => {
            return writer.nested(number, |writer| int_or_string(writer, name, value));
        }
        _ => return Err(unfit(name, value)),
    }
    Ok(())
}

fn int_or_string(writer: &mut Writer, name: &str, value: &Value) -> Step<()> {
    let (kind, int, text) = match value {
        Value::String(text) => (1, 0, text.as_str()),
        Value::Number(int) => (0, int.as_i64().ok_or_else(|| unfit(name, value))?, ""),
        _ => return Err(unfit(name, value)),
    };
    writer.varint_field(1, kind);
    writer.varint_field(2, int as u64);
    writer.bytes_field(3, text.as_bytes());
    Ok(())
}

fn one_of(writer: &mut Writer, of: &Type, name: &str, value: &Value) -> Step<()> {
    for form in &of.one_of {
        match (&form.shape, value) {
            (Shape::List(list), Value::Array(items)) => {
                elements(writer, form.number, &list.item, name, items)?;
            }
            (Shape::Bool, Value::Bool(set)) => writer.varint_field(form.number, (*set).into()),
            // A schema allows, too.
            (Shape::Bool, Value::Object(_)) => writer.varint_field(form.number, 1),
            (Shape::Struct(_), Value::Object(_)) => write(writer, form.number, &form.shape, name, value)?,
            _ => {}
        }
    }
    Ok(())
}

fn unfit(field: &str, value: &Value) -> ProtobufError {
    let form = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    ProtobufError::Value { field: field.to_owned(), message: format!("cannot be encoded from {form}") }
}
