//! The empty object of a built-in kind, as Go encodes it: fields that are always written are there.
//!
//! A created object is compared with this one; that `spec` is in both is why nobody owns `spec` itself.

use serde_json::{Map, Value};

use crate::schema::{Field, Omit, Shape, Type, TypeRef};

/// The empty object of the type. Custom resources have no fields that are always written.
pub(super) fn zero(of: &TypeRef) -> Value {
    match of {
        TypeRef::Builtin(_) => zero_struct(of),
        TypeRef::Owned(_) => Value::Object(Map::new()),
    }
}

fn zero_struct(of: &Type) -> Value {
    if !of.one_of.is_empty() {
        return Value::Null;
    }
    let fields = of.fields.iter().filter(|field| is_written(field));
    Value::Object(fields.map(|field| (field.name.to_string(), zero_field(field))).collect())
}

fn is_written(field: &Field) -> bool {
    match field.omit {
        Omit::Never => true,
        Omit::Zero => false,
        Omit::Empty => !field.pointer && matches!(field.shape, Shape::Struct(_)),
    }
}

fn zero_field(field: &Field) -> Value {
    if field.pointer {
        return Value::Null;
    }
    match &field.shape {
        Shape::Struct(of) => zero_struct(of),
        Shape::String => Value::from(""),
        Shape::Bool => Value::from(false),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => Value::from(0),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        _ => Value::Null,
    }
}
