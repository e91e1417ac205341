//! JSON merge patch, RFC 7386: null deletes, objects merge, all else replaces.

use serde_json::{Map, Value};

use super::{OBJECT, PatchError, document, malformed, not_a};

/// Reads a merge patch.
///
/// # Errors
/// It is no JSON object.
pub fn parse(text: &[u8]) -> Result<Value, PatchError> {
    match document(text).map_err(malformed)? {
        patch @ Value::Object(_) => Ok(patch),
        Value::Null => Ok(Value::Object(Map::new())),
        other => Err(malformed(not_a(OBJECT, &other))),
    }
}

/// Applies `patch` to `target`. A patch that is no object takes the target's place.
pub fn apply(target: &mut Value, mut patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => merge(target, patch),
        (target, Value::Object(fields)) => {
            patch = Value::Object(fields);
            prune_nulls(&mut patch);
            *target = patch;
        }
        (target, mut other) => {
            prune_nulls(&mut other);
            *target = other;
        }
    }
}

fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, mut value) in patch {
        if value.is_null() {
            target.remove(&key);
            continue;
        }
        match (target.get_mut(&key), value) {
            (Some(Value::Object(current)), Value::Object(patch)) => merge(current, patch),
            // Upstream keeps the nulls of a list that replaces an object.
            (Some(current @ Value::Object(_)), other) => *current = other,
            (_, other) => {
                value = other;
                prune_nulls(&mut value);
                target.insert(key, value);
            }
        }
    }
}

/// Nulls in objects mean "delete"; where there is nothing to delete they go. Nulls in lists are elements.
fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(prune_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (mut target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": 1}), json!(["x"]), json!(["x"])),
        ] {
            apply(&mut target, patch);
            assert_eq!(target, result);
        }
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for (text, fault) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("1", "json: cannot unmarshal number into Go value of type map[string]interface {}"),
            ("\"a\"", "json: cannot unmarshal string into Go value of type map[string]interface {}"),
            ("[1]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ] {
            let expected = format!("error decoding patch: {fault}");
            assert_eq!(parse(text.as_bytes()), Err(PatchError::Malformed(expected)), "{text}");
        }
    }
}
