//! Whether a schema is structural: what upstream asks of every `openAPIV3Schema` before it serves anything by it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Structural;
use crate::field::{Error, ErrorList, Path};

impl Structural {
    /// Everything that keeps a schema from being structural, in upstream's order. `schema` is `openAPIV3Schema` as
    /// its definition's type decoded it, and `path` where it stands.
    pub fn check_schema(path: &Path, schema: &Value) -> ErrorList {
        let Value::Object(root) = schema else { return ErrorList::default() };
        let mut check = Check { errors: Vec::new() };
        check.structure(path, root, Level::Root);
        check.completeness(path, path, root, Some(root));
        let mut keyed: Vec<(String, Error)> =
            check.errors.into_iter().map(|error| (error.to_string(), error)).collect();
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        keyed.into_iter().map(|(_, error)| error).collect()
    }
}

type Node = Map<String, Value>;

#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

struct Check {
    errors: Vec<Error>,
}

impl Check {
    /// A node that is no part of a value validation.
    fn structure(&mut self, path: &Path, node: &Node, level: Level) {
        let form = text(node, "type");
        match child(node, "items") {
            Some(items) => self.structure(&path.child("items"), items, Level::Item),
            None if form == "array" => {
                self.errors.push(Error::required(&path.child("items"), "must be specified"))
            }
            None => {}
        }
        for (name, property) in properties(node) {
            self.structure(&path.child("properties").key(name.clone()), property, Level::Field);
        }
        if node.contains_key("additionalProperties") {
            let path = path.child("additionalProperties");
            if level == Level::Root {
                self.errors.push(Error::forbidden(&path, "must not be used at the root"));
            }
            if let Some(additional) = child(node, "additionalProperties") {
                self.structure(&path, additional, Level::Field);
            }
        }
        self.extensions(path, node);
        self.junctions(path, node);
        self.form(path, node, level);
        self.meta(path, node, level);
    }

    fn extensions(&mut self, path: &Path, node: &Node) {
        for name in [PRESERVE, EMBEDDED] {
            if flag(node, INT_OR_STRING) && flag(node, name) {
                let message = "must be false if x-kubernetes-int-or-string is true";
                self.errors.push(Error::invalid(&path.child(name), true, message));
            }
        }
    }

    fn form(&mut self, path: &Path, node: &Node, level: Level) {
        let (form, at) = (text(node, "type"), path.child("type"));
        if flag(node, EMBEDDED) && form != "object" {
            let message = "must be object if x-kubernetes-embedded-resource is true";
            self.errors.push(match form {
                "" => Error::required(&at, message),
                form => Error::invalid(&at, form, message),
            });
        } else if form.is_empty() && !flag(node, INT_OR_STRING) && !flag(node, PRESERVE) {
            let message = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.errors.push(Error::required(&at, message));
        }
        if flag(node, EMBEDDED) && node.contains_key("additionalProperties") {
            let message = "must not be used if x-kubernetes-embedded-resource is set";
            self.errors.push(Error::forbidden(&path.child("additionalProperties"), message));
        }
        if level == Level::Root && !form.is_empty() && form != "object" {
            self.errors.push(Error::invalid(&at, form, "must be object at the root"));
        }
    }

    fn meta(&mut self, path: &Path, node: &Node, level: Level) {
        let known: BTreeMap<&String, &Node> = properties(node).collect();
        let at = |name: &'static str| path.child("properties").key(name);
        let is_object = level == Level::Root || flag(node, EMBEDDED);
        for name in ["kind", "apiVersion"] {
            let form = known.get(&name.to_owned()).map(|property| text(property, "type"));
            if let Some(form) = form.filter(|form| is_object && *form != "string") {
                self.errors.push(Error::invalid(&at(name).child("type"), form, "must be string"));
            }
        }
        if let Some(metadata) = known.get(&"metadata".to_owned()) {
            let form = text(metadata, "type");
            if is_object && form != "object" {
                self.errors.push(Error::invalid(&at("metadata").child("type"), form, "must be object"));
            }
            if level == Level::Root && !only_names(metadata) {
                let message = "must not specify anything other than name and generateName, but metadata is implicitly specified";
                self.errors.push(Error::forbidden(&at("metadata"), message));
            }
        }
        if flag(node, EMBEDDED) && !flag(node, PRESERVE) && known.is_empty() {
            let message = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.errors.push(Error::required(&path.child("properties"), message));
        }
    }

    /// The value validations below a node; they may not say again what the structure says.
    fn junctions(&mut self, path: &Path, node: &Node) {
        let int_or_string = flag(node, INT_OR_STRING);
        for (name, index, nested) in nested(node) {
            let path = step(path, name, index);
            // The two ways in which an int-or-string may spell its types.
            if int_or_string && name == "anyOf" && is_int_or_string(node) {
                continue;
            }
            let first_of_all =
                int_or_string && name == "allOf" && index == Some(0) && is_int_or_string(nested);
            self.validation(&path, nested, first_of_all);
        }
        let pattern = text(node, "pattern");
        if let Some(error) = super::Pattern::new(pattern.to_owned()).error().filter(|_| !pattern.is_empty()) {
            let message = format!("must be a valid regular expression, but isn't: {error}");
            self.errors.push(Error::invalid(&path.child("pattern"), pattern, message));
        }
    }

    fn validation(&mut self, path: &Path, node: &Node, skip_any_of: bool) {
        if skip_any_of {
            let rest: Node = node
                .iter()
                .filter(|(name, _)| *name != "anyOf")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            self.junctions(path, &rest);
        } else {
            self.junctions(path, node);
        }
        if let Some(items) = child(node, "items") {
            self.validation(&path.child("items"), items, false);
        }
        for (name, property) in properties(node) {
            self.validation(&path.child("properties").key(name.clone()), property, false);
        }
        for (name, message) in [
            ("type", "must be empty to be structural"),
            ("additionalProperties", "must be undefined to be structural"),
            ("default", "must be undefined to be structural"),
            ("title", "must be empty to be structural"),
            ("description", "must be empty to be structural"),
            ("nullable", "must be false to be structural"),
            (PRESERVE, "must be false to be structural"),
            (EMBEDDED, "must be false to be structural"),
            (INT_OR_STRING, "must be false to be structural"),
            ("x-kubernetes-list-map-keys", "must be empty to be structural"),
            ("x-kubernetes-list-type", "must be undefined to be structural"),
            ("x-kubernetes-map-type", "must be undefined to be structural"),
            ("x-kubernetes-validations", "must be empty to be structural"),
        ] {
            if node.get(name).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))) {
                self.errors.push(Error::forbidden(&path.child(name), message));
            }
        }
        if properties(node).any(|(name, _)| name == "metadata") {
            let message = "must not be specified in a nested context";
            self.errors.push(Error::forbidden(&path.child("properties").key("metadata"), message));
        }
    }

    /// Every value validation must apply to something that the structure knows.
    fn completeness(&mut self, at: &Path, from: &Path, validation: &Node, structure: Option<&Node>) {
        let Some(structure) = structure else {
            self.errors.push(Error::required(at, format!("because it is defined in {from}")));
            return;
        };
        for (name, index, nested) in nested(validation) {
            self.nested_completeness(at, &step(from, name, index), nested, Some(structure));
        }
    }

    fn nested_completeness(&mut self, at: &Path, from: &Path, validation: &Node, structure: Option<&Node>) {
        self.completeness(at, from, validation, structure);
        let Some(structure) = structure else { return };
        if let Some(items) = child(validation, "items") {
            self.nested_completeness(
                &at.child("items"),
                &from.child("items"),
                items,
                child(structure, "items"),
            );
        }
        for (name, property) in properties(validation) {
            let step = |path: &Path| path.child("properties").key(name.clone());
            let known =
                structure.get("properties").and_then(|known| known.get(name)).and_then(Value::as_object);
            self.nested_completeness(&step(at), &step(from), property, known);
        }
    }
}

fn text<'a>(node: &'a Node, name: &str) -> &'a str {
    node.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(node: &Node, name: &str) -> bool {
    node.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn child<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    node.get(name).and_then(Value::as_object)
}

fn properties(node: &Node) -> impl Iterator<Item = (&String, &Node)> {
    let all = child(node, "properties").into_iter().flatten();
    all.filter_map(|(name, property)| Some((name, property.as_object()?)))
}

/// The value validations directly below a node, each by the field it stands in.
fn nested(node: &Node) -> impl Iterator<Item = (&'static str, Option<usize>, &Node)> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(move |name| {
        let items = node.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        items.filter_map(move |(index, item)| Some((name, Some(index), item.as_object()?)))
    });
    lists.chain(child(node, "not").map(|not| ("not", None, not)))
}

fn step(path: &Path, name: &'static str, index: Option<usize>) -> Path {
    match index {
        Some(index) => path.child(name).index(index),
        None => path.child(name),
    }
}

/// Whether `anyOf` is exactly an integer or a string.
fn is_int_or_string(node: &Node) -> bool {
    let Some(Value::Array(forms)) = node.get("anyOf") else { return false };
    let only = |form: &Value, name: &str| {
        form.as_object().is_some_and(|form| form.len() == 1 && text(form, "type") == name)
    };
    forms.len() == 2 && only(&forms[0], "integer") && only(&forms[1], "string")
}

/// Whether root metadata says nothing but what names must look like.
fn only_names(metadata: &Node) -> bool {
    metadata.iter().all(|(name, value)| match name.as_str() {
        "type" | "default" => true,
        "properties" => value
            .as_object()
            .is_some_and(|known| known.keys().all(|name| matches!(name.as_str(), "name" | "generateName"))),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(schema: Value) -> Vec<String> {
        Structural::check_schema(&Path::new("s"), &schema).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_structural_schema_passes() {
        assert_eq!(
            check(json!({"type": "object", "properties": {
                "metadata": {"type": "object", "properties": {"name": {"type": "string", "pattern": "^a"}}},
                "spec": {"type": "object", "anyOf": [{"required": ["a"]}, {"properties": {"a": {"minimum": 1}}}],
                    "properties": {
                        "a": {"type": "integer"},
                        "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                        "c": {"x-kubernetes-preserve-unknown-fields": true},
                    }},
            }})),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_is_not_structural_is_named() {
        assert_eq!(
            check(
                json!({"properties": {"a": {}, "l": {"type": "array"}, "r": {"type": "string", "pattern": "("}}})
            )[..3],
            [
                "s.properties[a].type: Required value: must not be empty for specified object fields",
                "s.properties[l].items: Required value: must be specified",
                "s.properties[r].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
            ]
        );
        assert_eq!(
            check(
                json!({"type": "object", "anyOf": [{"type": "object", "properties": {"x": {"minimum": 1}}}]})
            ),
            [
                "s.anyOf[0].type: Forbidden: must be empty to be structural",
                "s.properties[x]: Required value: because it is defined in s.anyOf[0].properties[x]",
            ]
        );
    }
}
