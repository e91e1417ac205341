//! From a message to a JSON value in its canonical form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::{Payload, Reader};
use super::{Envelope, ProtobufError};
use crate::decode::{MAX_DEPTH, canonical};
use crate::schema::{Field, Shape, Type};

type Step<T> = Result<T, ProtobufError>;

/// Reads an object whose type is known. Unknown fields are dropped, as upstream's decoder drops them.
pub fn decode(envelope: &Envelope<'_>, of: &Type) -> Step<Value> {
    if !of.protobuf {
        return Err(ProtobufError::NotMarshalable(of.name.clone().into_owned()));
    }
    let mut map = message(envelope.raw, of, 0)?;
    for (name, text) in [("apiVersion", &envelope.meta.api_version), ("kind", &envelope.meta.kind)] {
        if !text.is_empty() && of.field(name).is_some() {
            map.insert(name.to_owned(), Value::String(text.clone()));
        }
    }
    Ok(Value::Object(map))
}

fn message(bytes: &[u8], of: &Type, depth: usize) -> Step<Map<String, Value>> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut map = Map::new();
    members(bytes, of, &mut Vec::new(), &mut map, depth)?;
    for field in &of.fields {
        if map.get(field.name.as_ref()).is_some_and(|value| canonical::omits(field, value)) {
            map.remove(field.name.as_ref());
        }
    }
    canonical::complete(of, &mut map);
    Ok(map)
}

/// Reads the fields of a message that lies inside the embedded structs `via`.
fn members(
    bytes: &[u8],
    of: &Type,
    via: &mut Vec<u32>,
    map: &mut Map<String, Value>,
    depth: usize,
) -> Step<()> {
    let mut reader = Reader::new(bytes);
    // Fields mostly arrive in the order they are declared.
    let mut expected = 0;
    while let Some((number, payload)) = reader.field()? {
        let Some(found) = find(of, via, number, expected) else { continue };
        match found {
            Found::Field(index) => {
                expected = index;
                let field = &of.fields[index];
                let old = map.remove(field.name.as_ref());
                if let Some(value) = value_of(field, payload, old, depth)? {
                    map.insert(field.name.clone().into_owned(), value);
                }
            }
            Found::Embedded => {
                let Payload::Bytes(nested) = payload else { return Err(wrong(payload, &of.name)) };
                via.push(number);
                members(nested, of, via, map, depth)?;
                via.pop();
            }
        }
    }
    Ok(())
}

enum Found {
    Field(usize),
    Embedded,
}

fn find(of: &Type, via: &[u32], number: u32, expected: usize) -> Option<Found> {
    let count = of.fields.len();
    (0..count).map(|step| (expected + step) % count).find_map(|index| {
        let wire = of.fields[index].wire.as_ref()?;
        let rest = wire.via.strip_prefix(via)?;
        match rest.first() {
            None => (wire.number == number).then_some(Found::Field(index)),
            Some(next) => (*next == number).then_some(Found::Embedded),
        }
    })
}

fn value_of(field: &Field, payload: Payload<'_>, old: Option<Value>, depth: usize) -> Step<Option<Value>> {
    let wrapped = field.wire.as_ref().is_some_and(|wire| wire.wrapped);
    match &field.shape {
        Shape::List(list) if wrapped => items(bytes(payload, field)?, &list.item, field, depth).map(Some),
        Shape::List(list) => {
            let mut values = match old {
                Some(Value::Array(values)) => values,
                _ => Vec::new(),
            };
            element(payload, &list.item, field, depth, &mut values)?;
            Ok(Some(Value::Array(values)))
        }
        Shape::Map(map) => {
            let mut entries = match old {
                Some(Value::Object(entries)) => entries,
                _ => Map::new(),
            };
            let (key, value) = entry(bytes(payload, field)?, &map.value, field, wrapped, depth)?;
            entries.insert(key, value);
            Ok(Some(Value::Object(entries)))
        }
        shape => value(payload, shape, field, depth),
    }
}

fn entry(bytes: &[u8], shape: &Shape, field: &Field, wrapped: bool, depth: usize) -> Step<(String, Value)> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        match (number, payload, shape) {
            (1, Payload::Bytes(text), _) => key = String::from_utf8_lossy(text).into_owned(),
            (2, Payload::Bytes(bytes), Shape::List(list)) if wrapped => {
                found = Some(items(bytes, &list.item, field, depth)?);
            }
            (2, payload, _) => found = value(payload, shape, field, depth)?,
            _ => {}
        }
    }
    // The empty value of bytes is no null here: presence of the key says it is set.
    let empty = || if matches!(shape, Shape::Bytes) { Value::from("") } else { canonical::of_shape(shape) };
    Ok((key, found.unwrap_or_else(empty)))
}

/// A message whose field 1 repeats the items.
fn items(bytes: &[u8], shape: &Shape, field: &Field, depth: usize) -> Step<Value> {
    let mut values = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        if number == 1 {
            element(payload, shape, field, depth, &mut values)?;
        }
    }
    Ok(Value::Array(values))
}

fn element(
    payload: Payload<'_>,
    shape: &Shape,
    field: &Field,
    depth: usize,
    values: &mut Vec<Value>,
) -> Step<()> {
    let packable = matches!(shape, Shape::Int32 | Shape::Int64 | Shape::Bool);
    if let (Payload::Bytes(packed), true) = (payload, packable) {
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let payload = Payload::Varint(reader.varint()?);
            values.extend(value(payload, shape, field, depth)?);
        }
        return Ok(());
    }
    values.push(value(payload, shape, field, depth)?.unwrap_or_else(|| canonical::of_shape(shape)));
    Ok(())
}

/// None for an unset value: the zero time, an empty raw object.
fn value(payload: Payload<'_>, shape: &Shape, field: &Field, depth: usize) -> Step<Option<Value>> {
    let refuse = |message: String| ProtobufError::Value { field: field.name.clone().into_owned(), message };
    Ok(Some(match (shape, payload) {
        (Shape::String, Payload::Bytes(text)) => Value::String(String::from_utf8_lossy(text).into_owned()),
        (Shape::Bytes, Payload::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Shape::Bool, Payload::Varint(set)) => Value::Bool(set != 0),
        // Negative numbers are sign-extended to 64 bits.
        (Shape::Int32, Payload::Varint(number)) => Value::from(number as i32),
        (Shape::Int64, Payload::Varint(number)) => Value::from(number as i64),
        (Shape::Number, Payload::Fixed64(bits)) => canonical::float(f64::from_bits(bits))
            .map(Value::Number)
            .ok_or_else(|| refuse("json: unsupported value".to_owned()))?,
        (Shape::Struct(of), Payload::Bytes(bytes)) => Value::Object(message(bytes, of, depth + 1)?),
        (Shape::OneOf(of), Payload::Bytes(bytes)) => one_of(bytes, of, field, depth + 1)?,
        (Shape::Any | Shape::Object, Payload::Bytes(bytes)) => match text(bytes, 1)? {
            [] => return Ok(None),
            raw => canonical::untyped(raw).map_err(|error| refuse(error.to_string()))?,
        },
        (Shape::Quantity, Payload::Bytes(bytes)) => match text(bytes, 1)? {
            [] => Value::from("0"),
            raw => canonical::quantity(&String::from_utf8_lossy(raw))
                .map(Value::String)
                .map_err(|error| refuse(error.to_string()))?,
        },
        (Shape::Time | Shape::MicroTime, Payload::Bytes(bytes)) => {
            let (seconds, nanos) = (number(bytes, 1)? as i64, number(bytes, 2)? as i32);
            if bytes.is_empty() {
                return Ok(None);
            }
            let micros = matches!(shape, Shape::MicroTime);
            let time = canonical::timestamp(seconds, nanos, micros)
                .ok_or_else(|| refuse("timestamp out of range".to_owned()))?;
            return Ok(time.map(Value::String));
        }
        (Shape::Duration, Payload::Bytes(bytes)) => {
            Value::String(crate::duration::format(number(bytes, 1)? as i64))
        }
        (Shape::IntOrString, Payload::Bytes(bytes)) => {
            if number(bytes, 1)? == 0 {
                Value::from(number(bytes, 2)? as i32)
            } else {
                Value::String(String::from_utf8_lossy(text(bytes, 3)?).into_owned())
            }
        }
        _ => return Err(wrong(payload, &field.name)),
    }))
}

/// Upstream fills in the boolean beside a schema, so a richer form outweighs it.
fn one_of(bytes: &[u8], of: &Type, field: &Field, depth: usize) -> Step<Value> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let has_bool = of.one_of.iter().any(|form| matches!(form.shape, Shape::Bool));
    let mut found = if has_bool { Value::Bool(false) } else { Value::Null };
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        let Some(form) = of.one_of.iter().find(|form| form.number == number) else { continue };
        match &form.shape {
            Shape::List(list) => {
                let mut values = match found {
                    Value::Array(values) => values,
                    _ => Vec::new(),
                };
                element(payload, &list.item, field, depth, &mut values)?;
                found = Value::Array(values);
            }
            Shape::Bool if !found.is_boolean() => {}
            shape => found = value(payload, shape, field, depth)?.unwrap_or(Value::Null),
        }
    }
    Ok(found)
}

/// The last bytes of a field; empty when it is missing.
fn text(message: &[u8], wanted: u32) -> Step<&[u8]> {
    let mut reader = Reader::new(message);
    let mut found: &[u8] = &[];
    while let Some((number, payload)) = reader.field()? {
        if let (true, Payload::Bytes(bytes)) = (number == wanted, payload) {
            found = bytes;
        }
    }
    Ok(found)
}

/// The last varint of a field; 0 when it is missing.
fn number(message: &[u8], wanted: u32) -> Step<u64> {
    let mut reader = Reader::new(message);
    let mut found = 0;
    while let Some((number, payload)) = reader.field()? {
        if let (true, Payload::Varint(value)) = (number == wanted, payload) {
            found = value;
        }
    }
    Ok(found)
}

fn bytes<'a>(payload: Payload<'a>, field: &Field) -> Step<&'a [u8]> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong(payload, &field.name)),
    }
}

fn wrong(payload: Payload<'_>, field: &str) -> ProtobufError {
    ProtobufError::WrongWireType { wire: payload.wire_type(), field: field.to_owned() }
}
