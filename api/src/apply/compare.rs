//! What differs between two objects, as sets of paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::PathElement;
use super::schema::{Form, Schema};
use super::set::Set;
use super::value::equal;

/// What became of the left object. No path is in two of the sets, except where lists have repeated keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub removed: Set,
    pub modified: Set,
    pub added: Set,
}

/// Compares two valid objects of one type.
pub(super) fn compare(left: &Value, right: &Value, schema: Schema<'_>) -> Comparison {
    let mut walk = Walk { path: Vec::new(), comparison: Comparison::default() };
    walk.values(Some(left), Some(right), schema);
    walk.comparison
}

struct Walk {
    path: Vec<PathElement>,
    comparison: Comparison,
}

impl Walk {
    fn below(
        &mut self,
        element: PathElement,
        left: Option<&Value>,
        right: Option<&Value>,
        schema: Schema<'_>,
    ) {
        self.path.push(element);
        self.values(left, right, schema);
        self.path.pop();
    }

    fn values(&mut self, left: Option<&Value>, right: Option<&Value>, schema: Schema<'_>) {
        let (left_form, right_form) = (schema.form(left), schema.form(right));
        let is_leaf = match (left, right) {
            (_, None) => self.as_form(left_form, left, right, schema),
            (None, _) => self.as_form(right_form, left, right, schema),
            _ => {
                if left_form != right_form {
                    self.as_form(left_form, left, right, schema);
                }
                self.as_form(right_form, left, right, schema)
            }
        };
        if !is_leaf {
            match (left, right) {
                (None, _) => self.comparison.added.insert(&self.path),
                (_, None) => self.comparison.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// Compares as if both were of this form; tells whether they were taken as a whole.
    fn as_form(
        &mut self,
        form: Form,
        left: Option<&Value>,
        right: Option<&Value>,
        schema: Schema<'_>,
    ) -> bool {
        let is_empty = |value: Option<&Value>| match (form, value) {
            (Form::Map, Some(Value::Object(fields))) => fields.is_empty(),
            (Form::List, Some(Value::Array(items))) => items.is_empty(),
            _ => true,
        };
        if schema.is_atomic(form) || (is_empty(left) && is_empty(right)) {
            self.leaf(left, right);
            return true;
        }
        match form {
            Form::Map => self.maps(left, right, schema),
            Form::List => self.lists(left, right, schema),
            Form::Scalar => {}
        }
        false
    }

    fn leaf(&mut self, left: Option<&Value>, right: Option<&Value>) {
        match (left, right) {
            (None, _) => self.comparison.added.insert(&self.path),
            (_, None) => self.comparison.removed.insert(&self.path),
            (Some(left), Some(right)) if !equal(left, right) => self.comparison.modified.insert(&self.path),
            _ => {}
        }
    }

    fn maps(&mut self, left: Option<&Value>, right: Option<&Value>, schema: Schema<'_>) {
        let empty = Map::new();
        let left = left.and_then(Value::as_object).unwrap_or(&empty);
        let right = right.and_then(Value::as_object).unwrap_or(&empty);
        let added = right.keys().filter(|name| !left.contains_key(*name));
        for name in left.keys().chain(added) {
            if let Some(schema) = schema.field(name) {
                self.below(PathElement::field(name.as_str()), left.get(name), right.get(name), schema);
            }
        }
    }

    fn lists(&mut self, left: Option<&Value>, right: Option<&Value>, schema: Schema<'_>) {
        let Some(item) = schema.item() else {
            return;
        };
        let mut items: BTreeMap<PathElement, [Vec<&Value>; 2]> = BTreeMap::new();
        for (side, list) in [left, right].into_iter().enumerate() {
            for value in list.and_then(Value::as_array).into_iter().flatten() {
                if let Ok(element) = schema.element(value) {
                    items.entry(element).or_default()[side].push(value);
                }
            }
        }
        for (element, [left, right]) in items {
            self.items(element, &left, &right, item);
        }
    }

    /// Items with the same key. Where the key is repeated they are one thing.
    fn items(&mut self, element: PathElement, left: &[&Value], right: &[&Value], schema: Schema<'_>) {
        let mut path = self.path.clone();
        path.push(element.clone());
        match (left, right) {
            ([] | [_], [] | [_]) => {
                self.below(element, left.first().copied(), right.first().copied(), schema)
            }
            ([_, _, ..], [_, _, ..]) => {
                let same = left.len() == right.len() && left.iter().zip(right).all(|(a, b)| equal(a, b));
                if !same {
                    self.comparison.modified.insert(&path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(right) = right.first() {
                    self.below(element, None, Some(right), schema);
                }
                self.comparison.removed.insert(&path);
            }
            (_, _) => {
                if let Some(left) = left.first() {
                    self.below(element, Some(left), None, schema);
                }
                self.comparison.added.insert(&path);
            }
        }
    }
}
