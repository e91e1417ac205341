//! A write that changes nothing but the times in managed fields is no write.

use serde_json::{Map, Value};

use super::value::equal;

/// Gives `new` the managed fields of `old` where only their times differ and nothing else of the object does, so
/// that the object is not stored again for it.
pub fn keep_timestamps_of_unchanged(new: &mut Value, old: &Value) {
    let fields = |object: &Value| object["metadata"]["managedFields"].as_array().cloned();
    let (Some(new_entries), Some(old_entries)) = (fields(new), fields(old)) else {
        return;
    };
    if new_entries == old_entries || new_entries.len() != old_entries.len() {
        return;
    }
    let same_entry = |(a, b): (&Value, &Value)| same_except(a, b, "time", equal);
    let same_metadata = |a: &Value, b: &Value| same_except(a, b, "managedFields", equal);
    let unchanged = new_entries.iter().zip(&old_entries).all(same_entry)
        && same_metadata(&new["metadata"], &old["metadata"])
        && same_except(new, old, "metadata", equal);
    if unchanged {
        new["metadata"]["managedFields"] = Value::Array(old_entries);
    }
}

/// Whether two objects are the same but for the field `except`.
fn same_except(a: &Value, b: &Value, except: &str, same: fn(&Value, &Value) -> bool) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        return same(a, b);
    };
    let count = |object: &Map<String, Value>| object.len() - usize::from(object.contains_key(except));
    count(a) == count(b)
        && a.iter().all(|(key, value)| key == except || b.get(key).is_some_and(|other| same(value, other)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_stay_when_nothing_else_changed() {
        let object = |time: &str, spec: i32| json!({"metadata": {"name": "a", "managedFields": [{"manager": "m", "time": time}]}, "spec": spec});
        let (old, mut same, mut changed) = (object("1", 1), object("2", 1), object("2", 2));
        keep_timestamps_of_unchanged(&mut same, &old);
        assert_eq!(same, old);
        keep_timestamps_of_unchanged(&mut changed, &old);
        assert_eq!(changed, object("2", 2));
    }
}
