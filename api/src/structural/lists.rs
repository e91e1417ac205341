//! Uniqueness in lists that are sets or maps.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Structural;
use crate::field::{Error, ErrorList, Path};
use crate::schema::ListKind;

impl Structural {
    /// What stands twice in sets, and keys that stand twice in maps.
    pub fn validate_lists(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::default();
        self.walk_lists(&Path::nil(), object, &mut errors);
        errors
    }

    fn walk_lists(&self, path: &Path, value: &Value, errors: &mut ErrorList) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(schema) = self.properties.get(name) {
                        schema.walk_lists(&path.child(name.clone()), value, errors);
                    } else if let Some(schema) = self.of_field(name) {
                        schema.walk_lists(&path.key(name.clone()), value, errors);
                    }
                }
            }
            Value::Array(items) => {
                match self.list_type {
                    Some(ListKind::Set) => {
                        for index in repeated(items.iter()) {
                            errors.push(Error::duplicate(&path.index(index), &items[index]));
                        }
                    }
                    Some(ListKind::Map) => self.map_keys(path, items, errors),
                    _ => {}
                }
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        schema.walk_lists(&path.index(index), item, errors);
                    }
                }
            }
            _ => {}
        }
    }

    fn map_keys(&self, path: &Path, items: &[Value], errors: &mut ErrorList) {
        let misfit = items.iter().position(|item| !item.is_object() && !item.is_null());
        if let Some(index) = misfit {
            let message = "must be an object for an array of list-type map";
            errors.push(Error::invalid(&path.index(index), &items[index], message));
            return;
        }
        let key = |item: &Value| -> Value {
            let known =
                self.list_map_keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            Value::Object(known.collect::<Map<_, _>>())
        };
        let keys: Vec<Value> = items.iter().map(key).collect();
        for index in repeated(keys.iter()) {
            errors.push(Error::duplicate(&path.index(index), &keys[index]));
        }
    }
}

/// The second appearance of each value that appears more than once.
fn repeated<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for (index, value) in values.enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            found.push(index);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_stands_twice_is_reported_once() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"],
                    "items": {"type": "object"}},
        }}));
        let errors = schema.validate_lists(&json!({
            "set": ["x", "y", "x", "x"],
            "map": [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 3}, {"a": 1, "b": 2}],
        }));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["map[2]: Duplicate value: {\"a\":1,\"b\":2}", "set[2]: Duplicate value: \"x\""]);
    }
}
