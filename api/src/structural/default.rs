//! Nulls that mean nothing, and defaults.

use serde_json::Value;

use super::Structural;

impl Structural {
    /// Removes nulls where the schema allows none and has no default either. Those with a default stay for
    /// [`Structural::apply_defaults`] to replace.
    pub fn prune_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(map) => map.retain(|name, value| {
                let Some(schema) = self.of_field(name) else { return true };
                if value.is_null() && !schema.nullable && schema.default.is_none() {
                    return false;
                }
                schema.prune_nulls(value);
                true
            }),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.prune_nulls(item));
                }
            }
            _ => {}
        }
    }

    /// Fills in what is missing, from the outside in, so that defaults inside of defaults apply.
    pub fn apply_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (name, schema) in &self.properties {
                    if let Some(default) = &schema.default
                        && map.get(name).is_none_or(|value| schema.refuses(value))
                    {
                        map.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in map {
                    if let Some(schema) = self.of_field(name) {
                        schema.replace_null(value);
                        schema.apply_defaults(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        schema.replace_null(item);
                        schema.apply_defaults(item);
                    }
                }
            }
            _ => {}
        }
    }

    fn refuses(&self, value: &Value) -> bool {
        value.is_null() && !self.nullable
    }

    fn replace_null(&self, value: &mut Value) {
        if self.refuses(value)
            && let Some(default) = &self.default
        {
            *value = default.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_fill_gaps_and_forbidden_nulls() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "replicas": {"type": "integer", "default": 1},
                "mode": {"type": "string", "nullable": true, "default": "x"},
                "plain": {"type": "string"},
                "list": {"type": "array", "items": {"type": "object", "properties": {
                    "port": {"type": "integer", "default": 80}}}},
            }},
        }}));
        let mut object = json!({});
        schema.apply_defaults(&mut object);
        assert_eq!(object, json!({"spec": {"replicas": 1, "mode": "x"}}));
        let mut object =
            json!({"spec": {"replicas": null, "mode": null, "plain": null, "list": [{}, {"port": 1}]}});
        schema.prune_nulls(&mut object);
        schema.apply_defaults(&mut object);
        assert_eq!(
            object,
            json!({"spec": {"replicas": 1, "mode": null, "list": [{"port": 80}, {"port": 1}]}})
        );
    }
}
