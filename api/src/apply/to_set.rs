//! The paths an object sets, which are what its applier comes to own.

use std::collections::BTreeSet;

use serde_json::Value;

use super::element::PathElement;
use super::schema::{Form, Schema};
use super::set::Set;

/// The set of paths in a valid `value`.
pub(super) fn to_set(value: &Value, schema: Schema<'_>) -> Set {
    let mut set = Set::new();
    collect(value, schema, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, schema: Schema<'_>, path: &mut Vec<PathElement>, set: &mut Set) {
    let form = schema.form(Some(value));
    if schema.is_atomic(form) {
        set.insert(path);
        return;
    }
    match (form, value) {
        (Form::Map, Value::Object(fields)) => {
            for (name, value) in fields {
                let Some(below) = schema.field(name) else {
                    continue;
                };
                path.push(PathElement::field(name.as_str()));
                collect(value, below, path, set);
                let is_empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if is_empty || !schema.declares(name) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Form::List, Value::Array(items)) => collect_items(items, schema, path, set),
        _ => {}
    }
}

fn collect_items(items: &[Value], schema: Schema<'_>, path: &mut Vec<PathElement>, set: &mut Set) {
    let Some(below) = schema.item() else {
        return;
    };
    let elements: Vec<Option<PathElement>> = items.iter().map(|item| schema.element(item).ok()).collect();
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<&PathElement> =
        elements.iter().flatten().filter(|element| !seen.insert(*element)).collect();
    for (item, element) in items.iter().zip(&elements) {
        let Some(element) = element else {
            continue;
        };
        path.push(element.clone());
        // Of items with the same key nobody can own a part.
        if !repeated.contains(element) {
            collect(item, below, path, set);
        }
        set.insert(path);
        path.pop();
    }
}
