//! Merges an applied object into the live one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::element::PathElement;
use super::schema::{Form, Schema};

/// The live object with everything the applied one sets. Both are valid; `applied` repeats no key.
pub(super) fn merge(live: &Value, applied: &Value, schema: Schema<'_>) -> Value {
    values(Some(live), Some(applied), schema).unwrap_or_default()
}

fn values(left: Option<&Value>, right: Option<&Value>, schema: Schema<'_>) -> Option<Value> {
    let form = schema.form(if right.is_some() { right } else { left });
    let is_empty = |value: Option<&Value>| match (form, value) {
        (Form::Map, Some(Value::Object(fields))) => fields.is_empty(),
        (Form::List, Some(Value::Array(items))) => items.is_empty(),
        _ => true,
    };
    if schema.is_atomic(form) || (is_empty(left) && is_empty(right)) {
        return right.or(left).cloned();
    }
    match form {
        Form::Map => maps(left, right, schema),
        Form::List => lists(left, right, schema),
        Form::Scalar => right.or(left).cloned(),
    }
}

fn maps(left: Option<&Value>, right: Option<&Value>, schema: Schema<'_>) -> Option<Value> {
    let empty = Map::new();
    let left = left.and_then(Value::as_object).unwrap_or(&empty);
    let right = right.and_then(Value::as_object).unwrap_or(&empty);
    let mut merged = Map::new();
    for (name, value) in left {
        let value = match schema.field(name) {
            Some(schema) => values(Some(value), right.get(name), schema),
            None => Some(value.clone()),
        };
        merged.extend(value.map(|value| (name.clone(), value)));
    }
    for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
        let value = match schema.field(name) {
            Some(schema) => values(None, Some(value), schema),
            None => Some(value.clone()),
        };
        merged.extend(value.map(|value| (name.clone(), value)));
    }
    (!merged.is_empty()).then_some(Value::Object(merged))
}

/// Items by key, in the order of the applied list; items only the live list has keep their place among them.
fn lists(left: Option<&Value>, right: Option<&Value>, schema: Schema<'_>) -> Option<Value> {
    let item = schema.item()?;
    let left = Indexed::new(left, schema);
    let right = Indexed::new(right, schema);
    let mut shared: VecDeque<&PathElement> =
        right.elements.iter().filter(|element| left.first.contains_key(element)).collect();
    let mut merged = Vec::with_capacity(left.elements.len().max(right.elements.len()));
    let mut done: BTreeSet<&PathElement> = BTreeSet::new();
    let (mut l, mut r) = (0, 0);
    while l < left.elements.len() || r < right.elements.len() {
        if let (Some(ours), Some(theirs)) = (left.elements.get(l), right.elements.get(r)) {
            if ours == theirs {
                done.insert(ours);
                merged.extend(values(left.get(ours), right.get(ours), item));
                (l, r) = (l + 1, r + 1);
                shared.pop_front();
                continue;
            }
            if right.first.contains_key(ours) && shared.front().is_some_and(|next| *next != ours) {
                // Shared, but its turn comes later.
                l += 1;
                continue;
            }
        }
        if let Some(ours) = left.elements.get(l) {
            if !right.first.contains_key(ours) {
                merged.extend(values(Some(left.items[l]), None, item));
                l += 1;
                continue;
            }
            if done.contains(ours) {
                l += 1;
            }
        }
        if let Some(theirs) = right.elements.get(r) {
            done.insert(theirs);
            merged.extend(values(left.get(theirs), right.get(theirs), item));
            r += 1;
            if shared.front().is_some_and(|next| *next == theirs) {
                shared.pop_front();
            }
        }
    }
    (!merged.is_empty()).then_some(Value::Array(merged))
}

/// A list's items with what tells them apart.
struct Indexed<'a> {
    items: Vec<&'a Value>,
    elements: Vec<PathElement>,
    /// The item of each element; null for elements that are repeated, which are not merged.
    first: BTreeMap<PathElement, &'a Value>,
}

static NULL: Value = Value::Null;

impl<'a> Indexed<'a> {
    fn new(list: Option<&'a Value>, schema: Schema<'_>) -> Self {
        let mut indexed = Self { items: Vec::new(), elements: Vec::new(), first: BTreeMap::new() };
        for item in list.and_then(Value::as_array).into_iter().flatten() {
            let Ok(element) = schema.element(item) else {
                continue;
            };
            indexed.first.entry(element.clone()).and_modify(|first| *first = &NULL).or_insert(item);
            indexed.items.push(item);
            indexed.elements.push(element);
        }
        indexed
    }

    fn get(&self, element: &PathElement) -> Option<&'a Value> {
        self.first.get(element).copied()
    }
}
