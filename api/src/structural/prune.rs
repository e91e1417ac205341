//! Removing fields that the schema does not know.

use std::fmt::Write;

use serde_json::Value;

use super::{Additional, Structural};

impl Structural {
    /// Removes unknown fields from a whole object, and returns their paths (`spec.foo[0].bar`), sorted.
    /// Fields of `metadata` are [`Structural::coerce_metadata`]'s.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut pruner = Pruner::default();
        pruner.value(object, Some(self), true);
        pruner.unknown.sort();
        pruner.unknown
    }

    /// Removes unknown fields from a part of an object, such as a default.
    pub fn prune_part(&self, value: &mut Value) -> Vec<String> {
        let mut pruner = Pruner::default();
        pruner.value(value, Some(self), self.embedded);
        pruner.unknown.sort();
        pruner.unknown
    }
}

/// Fields every object has, whatever its schema says.
pub(super) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

#[derive(Default)]
struct Pruner {
    path: String,
    unknown: Vec<String>,
}

impl Pruner {
    fn value(&mut self, value: &mut Value, schema: Option<&Structural>, embedded: bool) {
        let keep = schema.is_some_and(|schema| schema.preserve_unknown);
        match value {
            Value::Object(map) => map.retain(|name, value| {
                if embedded && is_meta(name) {
                    return true;
                }
                let below = schema.and_then(|schema| known(schema, name));
                let Some(below) = below else {
                    if !keep && (!is_meta(name) || !self.path.is_empty()) {
                        self.at(name, |pruner| pruner.unknown.push(pruner.path.clone()));
                    }
                    return keep;
                };
                self.at(name, |pruner| {
                    pruner.value(value, below, below.is_some_and(|below| below.embedded));
                });
                true
            }),
            Value::Array(items) => {
                let below = schema.and_then(|schema| schema.items.as_deref());
                if keep && below.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    let _ = write!(self.path, "[{index}]");
                    // Lists inside preserved values are preserved too, unless their items say otherwise.
                    self.value(item, below, below.is_some_and(|below| below.embedded));
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn at(&mut self, name: &str, then: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        then(self);
        self.path.truncate(length);
    }
}

/// Whether a field is known, and by which schema; known without schema means that all below is unknown.
fn known<'a>(schema: &'a Structural, name: &str) -> Option<Option<&'a Structural>> {
    if let Some(property) = schema.properties.get(name) {
        return Some(Some(property));
    }
    match &schema.additional {
        None => None,
        Some(Additional::Of(schema)) => Some(Some(schema)),
        Some(Additional::Allowed(_)) => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_fall_away_except_where_they_are_preserved() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "known": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                         "properties": {"tight": {"type": "object"}}},
                "map": {"type": "object", "additionalProperties": {"type": "object"}},
            }},
        }}));
        let mut object = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "a", "foo": 1},
            "spec": {
                "known": [{"a": "x", "b": 1}], "free": {"x": {"y": 1}, "tight": {"z": 1}},
                "map": {"k": {"q": 1}}, "other": 1,
            },
            "status": {},
        });
        let unknown = schema.prune(&mut object);
        assert_eq!(unknown, ["spec.free.tight.z", "spec.known[0].b", "spec.map.k.q", "spec.other", "status"]);
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "K", "metadata": {"name": "a", "foo": 1},
                "spec": {"known": [{"a": "x"}], "free": {"x": {"y": 1}, "tight": {}}, "map": {"k": {}}},
            })
        );
    }
}
