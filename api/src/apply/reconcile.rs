//! Brings ownership in line with a schema that changed since: who owned parts of what is now taken as a whole
//! owns the whole.

use super::element::PathElement;
use super::schema::{Form, Schema};
use super::set::Set;

/// `set` as it would be had the schema always been this one.
pub(super) fn reconcile(set: &Set, schema: Schema<'_>) -> Option<Set> {
    let mut whole = Set::new();
    walk(set, schema, &mut Vec::new(), &mut whole);
    (!whole.is_empty()).then(|| set.recursive_difference(&whole).union(&whole))
}

/// Collects the paths of values that are owned in parts and must be owned as a whole.
fn walk(set: &Set, schema: Schema<'_>, path: &mut Vec<PathElement>, whole: &mut Set) {
    let form = match schema {
        // Such values were never granular, or never atomic.
        Schema::Scalar(_) | Schema::Deduced | Schema::Object => return,
        Schema::List(_) => Form::List,
        Schema::Struct { .. } | Schema::Map { .. } | Schema::Untyped => Form::Map,
    };
    if schema.is_atomic(form) {
        if !set.is_empty() {
            whole.insert(path);
        }
        return;
    }
    for (element, below) in &set.children {
        let schema = match element {
            PathElement::Field(name) => schema.field(name),
            _ => schema.item(),
        };
        if let Some(schema) = schema {
            path.push(element.clone());
            walk(below, schema, path, whole);
            path.pop();
        }
    }
}
