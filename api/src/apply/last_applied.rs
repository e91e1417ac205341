//! Taking over from client-side apply, which kept its last configuration in an annotation.

use serde_json::Value;

use crate::names::ANNOTATIONS_MAX_BYTES;

use super::LAST_APPLIED;
use super::compare::compare;
use super::schema::Schema;
use super::set::Set;
use super::to_set::to_set;
use super::validate::{Duplicates, validate};

/// The fields client-side apply set that still have its values; none without a usable annotation.
pub(super) fn owned(live: &Value, api_version: &str, schema: Schema<'_>) -> Option<Set> {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().filter(|text| !text.is_empty())?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"].as_str() != Some(api_version) {
        return None;
    }
    validate(live, schema, Duplicates::Refuse).ok()?;
    validate(&last, schema, Duplicates::Refuse).ok()?;
    let changed = compare(&last, live, schema);
    let set = to_set(&last, schema);
    Some(set.difference(&changed.modified).difference(&changed.added).difference(&changed.removed))
}

/// Keeps the annotation of `object` true to what was applied, so that client-side apply can take over again.
pub(super) fn set(object: &mut Value, patch: &Value) {
    let mut applied = patch.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty()
            && let Some(metadata) = applied["metadata"].as_object_mut()
        {
            metadata.remove("annotations");
        }
    }
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return;
    };
    annotations.insert(LAST_APPLIED.to_owned(), Value::from(format!("{applied}\n")));
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > ANNOTATIONS_MAX_BYTES {
        annotations.remove(LAST_APPLIED);
    }
}
