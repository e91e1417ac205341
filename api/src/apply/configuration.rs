//! Merging an apply configuration into an object without looking at who owns what: what a mutating admission policy
//! does.

use serde_json::Value;

use super::element::{PathElement, show_path};
use super::schema::{Form, Schema};
use super::validate::{Duplicates, validate};
use crate::schema::Type;

/// The object with everything the configuration sets.
///
/// Errors: the configuration does not fit the type, or sets something that could only be replaced as a whole.
pub fn merge_configuration(live: &Value, configuration: &Value, of: &Type) -> Result<Value, String> {
    let schema = Schema::root(of);
    validate(configuration, schema, Duplicates::Refuse)
        .map_err(|error| format!("failed to convert patch object to typed object: {error}"))?;
    let mut atomics = Vec::new();
    find_atomics(&mut Vec::new(), configuration, schema, &mut atomics);
    if !atomics.is_empty() {
        let places = atomics.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {places}"
        ));
    }
    validate(live, schema, Duplicates::Allow)
        .map_err(|error| format!("failed to convert original object to typed object: {error}"))?;
    Ok(super::merge::merge(live, configuration, schema))
}

/// The places of lists, maps and structs that are replaced as a whole.
fn find_atomics(path: &mut Vec<PathElement>, value: &Value, schema: Schema<'_>, found: &mut Vec<String>) {
    let form = schema.form(Some(value));
    if form != Form::Scalar && schema.is_atomic(form) {
        found.push(show_path(path));
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = schema.field(name) {
                    path.push(PathElement::field(name.as_str()));
                    find_atomics(path, value, schema, found);
                    path.pop();
                }
            }
        }
        Value::Array(items) => {
            let Some(item) = schema.item() else { return };
            for value in items {
                if let Ok(element) = schema.element(value) {
                    path.push(element);
                    find_atomics(path, value, item, found);
                    path.pop();
                }
            }
        }
        _ => {}
    }
}
