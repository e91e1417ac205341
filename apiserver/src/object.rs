//! Reading and writing the metadata of an object held as a JSON value.

use knarr_api::time::Clock;
use serde_json::{Map, Value};

/// An object's `metadata`, if it has one.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

/// An object's `metadata`, made if missing. A value that is no object becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_mut(map_at(object, "metadata"))
}

/// The object at a key, made if missing or not an object.
pub fn map_at<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    let slot = map_mut(object).entry(key).or_insert(Value::Null);
    map_mut(slot);
    slot
}

fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made an object")
}

/// A string in the metadata; empty when absent.
pub fn meta_str<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// A number in the metadata.
pub fn meta_i64(object: &Value, field: &str) -> Option<i64> {
    metadata(object)?.get(field)?.as_i64()
}

pub fn name(object: &Value) -> &str {
    meta_str(object, "name")
}

pub fn namespace(object: &Value) -> &str {
    meta_str(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    meta_str(object, "uid")
}

/// The resourceVersion, 0 when unset; `Err` with the text when it is no number.
pub fn resource_version(object: &Value) -> Result<u64, String> {
    match meta_str(object, "resourceVersion") {
        "" => Ok(0),
        text => text.parse().map_err(|_| text.to_owned()),
    }
}

pub fn set_meta(object: &mut Value, field: &str, value: impl Into<Value>) {
    metadata_mut(object).insert(field.to_owned(), value.into());
}

pub fn remove_meta(object: &mut Value, field: &str) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(field)
}

/// Copies a metadata field from one object to another; absent there means absent here.
pub fn copy_meta(to: &mut Value, from: &Value, field: &str) {
    match metadata(from).and_then(|m| m.get(field)) {
        Some(value) => set_meta(to, field, value.clone()),
        None => {
            remove_meta(to, field);
        }
    }
}

/// Copies a top-level field from one object to another; absent there means absent here.
pub fn copy_field(to: &mut Value, from: &Value, field: &str) {
    let to = map_mut(to);
    match from.get(field) {
        Some(value) => {
            to.insert(field.to_owned(), value.clone());
        }
        None => {
            to.remove(field);
        }
    }
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = metadata(object).and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

pub fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        remove_meta(object, "finalizers");
    } else {
        set_meta(object, "finalizers", finalizers);
    }
}

pub fn is_deleting(object: &Value) -> bool {
    metadata(object).is_some_and(|m| m.get("deletionTimestamp").is_some_and(|v| !v.is_null()))
}

/// RFC 3339 with whole seconds, as `metav1.Time`.
pub fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn now(clock: &dyn Clock) -> String {
    timestamp(clock.now())
}

/// A random (version 4) UUID; object UIDs must be unique over all servers of a store, so they come from the
/// cryptographic generator when `random` is the process's.
pub fn new_uid(random: &dyn knarr_api::time::Random) -> String {
    let (a, b) = (random.next_u64(), random.next_u64());
    let (high, low) = ((a & !0xF000) | 0x4000, (b & !(0b11 << 62)) | (0b10 << 62));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_version_4() {
        let uid = new_uid(&knarr_api::time::SeededRandom::new(1));
        assert_eq!(uid.len(), 36);
        assert_eq!(&uid[14..15], "4");
        assert!(matches!(&uid[19..20], "8" | "9" | "a" | "b"), "{uid}");
    }
}
