//! What an encoder shows for a field that is not set, and which set fields it leaves out.

use serde_json::{Map, Value};

use crate::schema::{Field, Omit, Shape, Type};

/// The value shown for an unset field; None when the field is left out.
pub(super) fn unset(field: &Field) -> Option<Value> {
    if field.pointer {
        return (field.omit == Omit::Never).then_some(Value::Null);
    }
    if field.omit == Omit::Zero || (field.omit == Omit::Empty && has_empty_form(&field.shape)) {
        return None;
    }
    Some(of_shape(&field.shape))
}

/// The zero value of a shape that is no pointer.
pub(crate) fn of_shape(shape: &Shape) -> Value {
    match shape {
        Shape::String => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => Value::from(0),
        Shape::Duration => Value::from("0s"),
        Shape::Quantity => Value::from("0"),
        Shape::Struct(of) => Value::Object(of_struct(of)),
        Shape::Bytes
        | Shape::Time
        | Shape::MicroTime
        | Shape::Any
        | Shape::Object
        | Shape::OneOf(_)
        | Shape::List(_)
        | Shape::Map(_) => Value::Null,
    }
}

pub(super) fn of_struct(of: &Type) -> Map<String, Value> {
    let mut map = Map::new();
    complete(of, &mut map);
    map
}

/// Adds the unset fields that are shown.
pub(crate) fn complete(of: &Type, map: &mut Map<String, Value>) {
    for field in &of.fields {
        if !map.contains_key(field.name.as_ref())
            && let Some(value) = unset(field)
        {
            map.insert(field.name.clone().into_owned(), value);
        }
    }
}

/// Whether the encoder leaves out a field that is set to this value.
pub(crate) fn omits(field: &Field, value: &Value) -> bool {
    !field.pointer && field.omit != Omit::Never && has_empty_form(&field.shape) && is_empty(value)
}

/// Go's `omitempty` knows no empty form of structs, and these are structs in Go.
fn has_empty_form(shape: &Shape) -> bool {
    !matches!(
        shape,
        Shape::Struct(_)
            | Shape::OneOf(_)
            | Shape::Time
            | Shape::MicroTime
            | Shape::Duration
            | Shape::Quantity
            | Shape::IntOrString
            | Shape::Any
            | Shape::Object
    )
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
