//! The `metadata` of custom resources and of resources embedded in them, which has the built-in form.

use serde_json::Value;

use super::Structural;
use crate::decode;
use crate::field::{Error, Path};
use crate::schema;

impl Structural {
    /// Brings `metadata` of the object and of embedded resources into canonical form and drops its unknown fields,
    /// whose paths are returned. `lenient` drops fields of wrong form, too, as reading from the store does.
    ///
    /// # Errors
    /// The first field of wrong form.
    pub fn coerce_metadata(&self, object: &mut Value, lenient: bool) -> Result<Vec<String>, Error> {
        let mut coercer = Coercer { lenient, unknown: Vec::new() };
        coercer.value(&Path::nil(), object, self, true)?;
        coercer.unknown.sort();
        Ok(coercer.unknown)
    }
}

struct Coercer {
    lenient: bool,
    unknown: Vec<String>,
}

impl Coercer {
    fn value(
        &mut self,
        path: &Path,
        value: &mut Value,
        schema: &Structural,
        embedded: bool,
    ) -> Result<(), Error> {
        if embedded && value.is_object() {
            self.type_meta(path, value)?;
            self.metadata(path, value)?;
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(below) = schema.of_field(name) {
                        let child = if schema.properties.contains_key(name) {
                            path.child(name.clone())
                        } else {
                            path.key(name.clone())
                        };
                        self.value(&child, value, below, below.embedded)?;
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let Some(below) = &schema.items {
                        self.value(&path.index(index), item, below, below.embedded)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn type_meta(&self, path: &Path, object: &mut Value) -> Result<(), Error> {
        let Value::Object(map) = object else { return Ok(()) };
        for name in ["apiVersion", "kind"] {
            match map.get(name) {
                None | Some(Value::String(_)) => {}
                Some(_) if self.lenient => {
                    map.remove(name);
                }
                Some(value) => return Err(Error::invalid(&path.child(name), value, "must be a string")),
            }
        }
        Ok(())
    }

    fn metadata(&mut self, path: &Path, object: &mut Value) -> Result<(), Error> {
        let Some(metadata) = object.get_mut("metadata") else { return Ok(()) };
        let of = schema::by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").expect("a built-in type");
        let at = path.child("metadata");
        match decode::normalize(metadata, &of, true) {
            Ok(decoded) => {
                *metadata = decoded.value;
                // Each is `unknown field "x"` with a path that starts at the metadata.
                let names = decoded.strict_errors.iter().filter_map(|error| error.split('"').nth(1));
                self.unknown.extend(names.map(|name| format!("{at}.{name}")));
            }
            Err(_) if self.lenient => self.drop_malformed(metadata, &of),
            Err(error) => return Err(Error::invalid(&at, &*metadata, error.to_string())),
        }
        Ok(())
    }

    /// Keeps the fields that can be read.
    fn drop_malformed(&self, metadata: &mut Value, of: &schema::Type) {
        let Value::Object(map) = metadata else {
            *metadata = Value::Object(serde_json::Map::new());
            return;
        };
        map.retain(|name, value| {
            let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
            match decode::normalize(&alone, of, false) {
                Ok(decoded) => match decoded.value.get(name) {
                    Some(canonical) => {
                        *value = canonical.clone();
                        true
                    }
                    None => false,
                },
                Err(_) => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_has_the_built_in_form() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                         "x-kubernetes-preserve-unknown-fields": true},
        }}));
        let mut object = json!({
            "metadata": {"name": "a", "foo": 1, "creationTimestamp": null},
            "template": {"kind": "Pod", "metadata": {"bar": 1, "labels": {"a": "b"}}},
        });
        let unknown = schema.coerce_metadata(&mut object, false).expect("well-formed");
        assert_eq!(unknown, ["metadata.foo", "template.metadata.bar"]);
        assert_eq!(
            object,
            json!({"metadata": {"name": "a"}, "template": {"kind": "Pod", "metadata": {"labels": {"a": "b"}}}})
        );
        let mut wrong = json!({"metadata": {"name": "a", "labels": 5}});
        let error = schema.coerce_metadata(&mut wrong.clone(), false).expect_err("labels");
        assert!(error.to_string().starts_with("metadata: Invalid value: "), "{error}");
        assert!(schema.coerce_metadata(&mut wrong, true).is_ok());
        assert_eq!(wrong, json!({"metadata": {"name": "a"}}));
    }
}
