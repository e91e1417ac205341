//! JSON patch, RFC 6902, with the leniencies of the library upstream uses: negative indices count from the end,
//! `replace` of a missing key adds it, `test` of a missing key against null holds.

use serde_json::{Map, Value};

use super::{PatchError, document, kind_name, malformed, not_a};

/// Most operations of one patch.
pub const MAX_OPERATIONS: usize = 10_000;
/// Most bytes all `copy` operations of a patch may add.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// A JSON patch that was read and not yet applied.
#[derive(Clone, Debug)]
pub struct JsonPatch(Vec<Map<String, Value>>);

/// An operation that failed; the text is upstream's.
type Failure = String;

impl JsonPatch {
    /// Reads a patch.
    ///
    /// # Errors
    /// It is no list of objects, or too long.
    pub fn parse(text: &[u8]) -> Result<Self, PatchError> {
        let operations = match document(text).map_err(malformed)? {
            Value::Array(operations) => operations,
            Value::Null => Vec::new(),
            other => return Err(malformed(not_a("[]handlers.jsonPatchOp", &other))),
        };
        if operations.len() > MAX_OPERATIONS {
            return Err(PatchError::TooLarge(format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                operations.len()
            )));
        }
        let operations = operations.into_iter().map(|operation| match operation {
            Value::Object(operation) => Ok(operation),
            Value::Null => Ok(Map::new()),
            other => Err(malformed(not_a("handlers.jsonPatchOp", &other))),
        });
        Ok(Self(operations.collect::<Result<_, _>>()?))
    }

    /// Members of operations that mean nothing, for warnings: `json patch unknown field "[0].x"`.
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for (i, operation) in self.0.iter().enumerate() {
            for name in
                operation.keys().filter(|name| !matches!(name.as_str(), "op" | "path" | "from" | "value"))
            {
                unknown.push(format!("json patch unknown field \"[{i}].{name}\""));
            }
        }
        unknown
    }

    /// Applies all operations in order. After an error `document` is half changed.
    ///
    /// # Errors
    /// The first operation that does not apply.
    pub fn apply(&self, document: &mut Value) -> Result<(), PatchError> {
        let mut copied = 0;
        self.0
            .iter()
            .try_for_each(|operation| apply(document, operation, &mut copied))
            .map_err(PatchError::Unprocessable)
    }
}

fn apply(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), Failure> {
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => add(document, operation),
        "remove" => remove(document, operation),
        "replace" => replace(document, operation),
        "move" => relocate(document, operation),
        "test" => test(document, operation),
        "copy" => copy(document, operation, copied),
        kind => Err(format!("Unexpected kind: {kind}")),
    }
}

fn add(document: &mut Value, operation: &Map<String, Value>) -> Result<(), Failure> {
    let path =
        path(operation).map_err(|_| "add operation failed to decode path: missing value".to_owned())?;
    let (container, key) = find(document, path).ok_or_else(|| {
        format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
    })?;
    insert(container, &key, value(operation))
        .map_err(|error| format!("error in add for path: '{path}': {error}"))
}

fn remove(document: &mut Value, operation: &Map<String, Value>) -> Result<(), Failure> {
    let path =
        path(operation).map_err(|_| "remove operation failed to decode path: missing value".to_owned())?;
    let (container, key) = find(document, path).ok_or_else(|| {
        format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
    })?;
    take(container, &key).map_err(|error| format!("error in remove for path: '{path}': {error}"))?;
    Ok(())
}

fn replace(document: &mut Value, operation: &Map<String, Value>) -> Result<(), Failure> {
    let path =
        path(operation).map_err(|error| format!("replace operation failed to decode path: {error}"))?;
    let value = value(operation);
    if path.is_empty() {
        if !(value.is_object() || value.is_array()) {
            return Err("replace operation value must be object or array: %!w(<nil>)".to_owned());
        }
        *document = value;
        return Ok(());
    }
    let (container, key) = find(document, path).ok_or_else(|| {
        format!("replace operation does not apply: doc is missing path: {path}: missing value")
    })?;
    match container {
        Value::Object(fields) => {
            fields.insert(key, value);
        }
        container => {
            let item = get_mut(container, &key).map_err(|_| {
                format!("replace operation does not apply: doc is missing key: {path}: missing value")
            })?;
            *item = value;
        }
    }
    Ok(())
}

fn relocate(document: &mut Value, operation: &Map<String, Value>) -> Result<(), Failure> {
    let from = from(operation).map_err(|error| format!("move operation failed to decode from: {error}"))?;
    let (container, key) = find(document, from).ok_or_else(|| {
        format!("move operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let value = take(container, &key).map_err(|error| format!("error in move for path: '{key}': {error}"))?;
    let path = path(operation).map_err(|error| format!("move operation failed to decode path: {error}"))?;
    let (container, key) = find(document, path).ok_or_else(|| {
        format!("move operation does not apply: doc is missing destination path: {path}: missing value")
    })?;
    insert(container, &key, value).map_err(|error| format!("error in move for path: '{path}': {error}"))
}

fn test(document: &mut Value, operation: &Map<String, Value>) -> Result<(), Failure> {
    let path = path(operation).map_err(|error| format!("test operation failed to decode path: {error}"))?;
    let expected = operation.get("value").unwrap_or(&Value::Null);
    let found = if path.is_empty() {
        &*document
    } else {
        let (container, key) = find(document, path).ok_or_else(|| {
            format!("test operation does not apply: is missing path: {path}: missing value")
        })?;
        get(container, &key).map_err(|error| format!("error in test for path: '{path}': {error}"))?
    };
    if found == expected { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
}

fn copy(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), Failure> {
    let from = from(operation).map_err(|error| format!("copy operation failed to decode from: {error}"))?;
    let (container, key) = find(document, from).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let value =
        get(container, &key).map_err(|error| format!("error in copy for from: '{from}': {error}"))?.clone();
    let path =
        path(operation).map_err(|_| "copy operation failed to decode path: missing value".to_owned())?;
    let (container, key) = find(document, path).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing destination path: {path}: missing value")
    })?;
    *copied += value.to_string().len();
    if *copied > MAX_COPIED_BYTES {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
        ));
    }
    insert(container, &key, value).map_err(|error| format!("error while adding value during copy: {error}"))
}

fn path(operation: &Map<String, Value>) -> Result<&str, Failure> {
    match operation.get("path") {
        None | Some(Value::Null) => Err("operation missing path field: missing value".to_owned()),
        Some(value) => text(value),
    }
}

fn from(operation: &Map<String, Value>) -> Result<&str, Failure> {
    match operation.get("from") {
        None | Some(Value::Null) => Err("operation, missing from field: missing value".to_owned()),
        Some(value) => text(value),
    }
}

fn text(value: &Value) -> Result<&str, Failure> {
    value
        .as_str()
        .ok_or_else(|| format!("json: cannot unmarshal {} into Go value of type string", kind_name(value)))
}

fn value(operation: &Map<String, Value>) -> Value {
    operation.get("value").cloned().unwrap_or_default()
}

/// The object or list that holds what `pointer` names, and its key in there.
fn find<'a>(document: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parents, key) = pointer.rsplit_once('/')?;
    let mut at = document;
    // What stands before the first slash is ignored, as upstream does.
    for part in parents.split('/').skip(1) {
        at = get_mut(at, &unescape(part)).ok()?;
    }
    (at.is_object() || at.is_array()).then(|| (at, unescape(key)))
}

fn unescape(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// What `container` holds at `key`; a missing key of an object reads as null.
fn get<'a>(container: &'a Value, key: &str) -> Result<&'a Value, Failure> {
    match container {
        Value::Object(fields) => Ok(fields.get(key).unwrap_or(&Value::Null)),
        Value::Array(items) => Ok(&items[existing(key, items.len())?]),
        _ => Err("missing value".to_owned()),
    }
}

fn get_mut<'a>(container: &'a mut Value, key: &str) -> Result<&'a mut Value, Failure> {
    match container {
        Value::Object(fields) => fields.get_mut(key).ok_or_else(|| "missing value".to_owned()),
        Value::Array(items) => {
            let index = existing(key, items.len())?;
            Ok(&mut items[index])
        }
        _ => Err("missing value".to_owned()),
    }
}

fn take(container: &mut Value, key: &str) -> Result<Value, Failure> {
    match container {
        Value::Object(fields) => fields
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Value::Array(items) => {
            let index = existing(key, items.len())?;
            Ok(items.remove(index))
        }
        _ => Err("missing value".to_owned()),
    }
}

fn insert(container: &mut Value, key: &str, value: Value) -> Result<(), Failure> {
    match container {
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value);
        }
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            let index = number(key)
                .map_err(|error| format!("value was not a proper array index: '{key}': {error}"))?;
            items.insert(within(index, items.len() + 1)?, value);
        }
        _ => return Err("missing value".to_owned()),
    }
    Ok(())
}

fn existing(key: &str, length: usize) -> Result<usize, Failure> {
    within(number(key)?, length)
}

fn number(key: &str) -> Result<i64, Failure> {
    key.parse().map_err(|_| format!("strconv.Atoi: parsing {}: invalid syntax", crate::field::quote(key)))
}

/// The position `index` means in a list of `length`; from the end where it is negative.
fn within(index: i64, length: usize) -> Result<usize, Failure> {
    let position = if index < 0 { index + length as i64 } else { index };
    usize::try_from(position)
        .ok()
        .filter(|position| *position < length)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: invalid index referenced"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut document: Value, patch: Value) -> Result<Value, String> {
        let patch = JsonPatch::parse(patch.to_string().as_bytes()).map_err(|error| error.to_string())?;
        patch.apply(&mut document).map_err(|error| error.to_string())?;
        Ok(document)
    }

    #[test]
    fn operations_change_the_document() {
        for (document, operation, result) in [
            (json!({}), json!({"op": "add", "path": "/a", "value": 1}), json!({"a": 1})),
            (json!({"a": [1, 2]}), json!({"op": "add", "path": "/a/1", "value": 9}), json!({"a": [1, 9, 2]})),
            (json!({"a": [1]}), json!({"op": "add", "path": "/a/-", "value": 9}), json!({"a": [1, 9]})),
            (json!({"a": [1, 2]}), json!({"op": "remove", "path": "/a/-1"}), json!({"a": [1]})),
            (json!({"a/b": {"~": 1}}), json!({"op": "remove", "path": "/a~1b/~0"}), json!({"a/b": {}})),
            (json!({}), json!({"op": "replace", "path": "/a", "value": 1}), json!({"a": 1})),
            (json!({"a": 1}), json!({"op": "move", "from": "/a", "path": "/b"}), json!({"b": 1})),
            (json!({"a": 1}), json!({"op": "copy", "from": "/a", "path": "/b"}), json!({"a": 1, "b": 1})),
            (json!({"a": 1}), json!({"op": "test", "path": "/a", "value": 1}), json!({"a": 1})),
            (json!({"a": 1}), json!({"op": "test", "path": "/b", "value": null}), json!({"a": 1})),
        ] {
            assert_eq!(patched(document, json!([operation])), Ok(result));
        }
    }

    #[test]
    fn failures_are_told_in_upstreams_words() {
        for (operation, message) in [
            (
                json!({"op": "add", "path": "/x/y", "value": 1}),
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                json!({"op": "remove", "path": "/x"}),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!({"op": "replace", "path": "/a/7", "value": 1}),
                "replace operation does not apply: doc is missing key: /a/7: missing value",
            ),
            (json!({"op": "test", "path": "/a/0", "value": 7}), "testing value /a/0 failed: test failed"),
            (
                json!({"op": "add", "path": "/a/9", "value": 7}),
                "error in add for path: '/a/9': Unable to access invalid index: 9: invalid index referenced",
            ),
            (
                json!({"op": "add", "path": "/a/x", "value": 7}),
                "error in add for path: '/a/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (json!({"op": "jump"}), "Unexpected kind: jump"),
            (json!({"op": "add"}), "add operation failed to decode path: missing value"),
        ] {
            assert_eq!(patched(json!({"a": [1]}), json!([operation])), Err(message.to_owned()));
        }
    }

    #[test]
    fn patches_are_bounded() {
        let many = Value::Array(vec![json!({"op": "test", "path": ""}); MAX_OPERATIONS + 1]);
        assert!(matches!(JsonPatch::parse(many.to_string().as_bytes()), Err(PatchError::TooLarge(_))));
        let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let bomb = Value::Array(vec![double; 64]);
        assert!(
            patched(json!({"a": ["x".repeat(1024)]}), bomb).is_err_and(|m| m.contains("exceeding the limit"))
        );
        assert_eq!(
            JsonPatch::parse(b"{}").map_err(|e| e.to_string()).err().as_deref(),
            Some(
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
            )
        );
    }
}
