//! Removes paths from an object.

use serde_json::{Map, Value};

use super::element::PathElement;
use super::schema::{Form, Schema};
use super::set::Set;

/// `value` without the members of `set`. What is owned as a whole has no parts to remove. A container whose last
/// part goes stays, empty.
pub(super) fn remove(value: &Value, set: &Set, schema: Schema<'_>) -> Value {
    let form = schema.form(Some(value));
    match (form, value) {
        (Form::Scalar, scalar) => scalar.clone(),
        _ if schema.is_atomic(form) => Value::Null,
        (Form::Map, Value::Object(fields)) => map(fields, set, schema),
        (Form::List, Value::Array(items)) => list(items, set, schema),
        _ => Value::Null,
    }
}

fn map(fields: &Map<String, Value>, set: &Set, schema: Schema<'_>) -> Value {
    let mut kept = Map::new();
    let mut touched = false;
    for (name, value) in fields {
        let element = PathElement::field(name.as_str());
        if set.members.contains(&element) {
            continue;
        }
        let value = match (set.child(&element), schema.field(name)) {
            (Some(below), Some(schema)) => {
                touched = true;
                part(value, below, schema)
            }
            _ => value.clone(),
        };
        kept.insert(name.clone(), value);
    }
    if kept.is_empty() && !touched { Value::Null } else { Value::Object(kept) }
}

fn list(items: &[Value], set: &Set, schema: Schema<'_>) -> Value {
    let mut kept = Vec::with_capacity(items.len());
    let mut touched = false;
    for item in items {
        let Ok(element) = schema.element(item) else {
            kept.push(item.clone());
            continue;
        };
        if set.members.contains(&element) {
            continue;
        }
        match (set.child(&element), schema.item()) {
            (Some(below), Some(schema)) => {
                touched = true;
                kept.push(part(item, below, schema));
            }
            _ => kept.push(item.clone()),
        }
    }
    if kept.is_empty() && !touched { Value::Null } else { Value::Array(kept) }
}

/// A part with something removed from within.
fn part(value: &Value, set: &Set, schema: Schema<'_>) -> Value {
    match (remove(value, set, schema), value) {
        (Value::Null, Value::Object(_)) => Value::Object(Map::new()),
        (Value::Null, Value::Array(_)) => Value::Array(Vec::new()),
        (rest, _) => rest,
    }
}
