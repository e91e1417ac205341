//! Checks that a value fits its schema before it is walked.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::element::PathElement;
use super::schema::{Form, Scalar, Schema};

/// What does not fit, with paths, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatches(Vec<(String, String)>);

impl fmt::Display for Mismatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |(path, message): &(String, String)| {
            if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
        };
        if let [only] = self.0.as_slice() {
            return f.write_str(&line(only));
        }
        f.write_str("errors:")?;
        self.0.iter().try_for_each(|mismatch| write!(f, "\n  {}", line(mismatch)))
    }
}

/// What to make of items with equal keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    Allow,
    Refuse,
}

/// Checks `value`, an object.
pub(super) fn validate(value: &Value, schema: Schema<'_>, duplicates: Duplicates) -> Result<(), Mismatches> {
    let mut walk = Walk { duplicates, path: Vec::new(), found: Vec::new() };
    walk.value(value, schema);
    if walk.found.is_empty() { Ok(()) } else { Err(Mismatches(walk.found)) }
}

struct Walk {
    duplicates: Duplicates,
    path: Vec<PathElement>,
    found: Vec<(String, String)>,
}

impl Walk {
    fn report(&mut self, message: String) {
        self.found.push((super::element::show_path(&self.path), message));
    }

    fn below(&mut self, element: PathElement, value: &Value, schema: Schema<'_>) {
        self.path.push(element);
        self.value(value, schema);
        self.path.pop();
    }

    fn value(&mut self, value: &Value, schema: Schema<'_>) {
        match (schema.form(Some(value)), value) {
            (_, Value::Null) => {}
            (Form::Scalar, value) => self.scalar(value, schema),
            (Form::List, Value::Array(items)) => self.list(items, schema),
            (Form::Map, Value::Object(fields)) => {
                for (name, value) in fields {
                    match schema.field(name) {
                        Some(schema) => self.below(PathElement::field(name.as_str()), value, schema),
                        None => {
                            self.path.push(PathElement::field(name.as_str()));
                            self.report("field not declared in schema".to_owned());
                            self.path.pop();
                        }
                    }
                }
            }
            (Form::List, other) => self.report(format!("expected list, got &{{{other}}}")),
            (Form::Map, other) => self.report(format!("expected map, got &{{{other}}}")),
        }
    }

    fn scalar(&mut self, value: &Value, schema: Schema<'_>) {
        let Schema::Scalar(scalar) = schema else {
            return;
        };
        let wrong = match scalar {
            Scalar::Numeric if !value.is_number() => {
                format!("expected numeric (int or float), got {}", go_type(value))
            }
            Scalar::String if !value.is_string() => {
                format!("expected string, got &value.valueUnstructured{{Value:{value}}}")
            }
            Scalar::Boolean if !value.is_boolean() => {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("expected boolean, got &{{{shown}}}")
            }
            Scalar::Any if value.is_array() || value.is_object() => {
                format!("expected any scalar, got &{{{value}}}")
            }
            _ => return,
        };
        self.report(wrong);
    }

    fn list(&mut self, items: &[Value], schema: Schema<'_>) {
        let Some(item_schema) = schema.item() else {
            return;
        };
        if schema.is_atomic(Form::List) {
            for (i, item) in items.iter().enumerate() {
                self.below(PathElement::Index(i as i64), item, item_schema);
            }
            return;
        }
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            let element = match schema.element(item) {
                Ok(element) => element,
                Err(message) => return self.report(format!("element {i}: {message}")),
            };
            if !seen.insert(element.clone()) && self.duplicates == Duplicates::Refuse {
                self.report(format!("duplicate entries for key {element}"));
            }
            self.below(element, item, item_schema);
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    }
}
