//! What upstream asks of a definition's schema beside its being structural: lists and maps that can be merged, defaults
//! that are valid themselves, and nothing that would be ignored.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::structural::Structural;
use serde_json::{Map, Value};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// What JSON schema has and definitions have not.
const UNSUPPORTED: [&str; 6] =
    ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const LIST_TYPE: &str = "x-kubernetes-list-type";
const MAP_TYPE: &str = "x-kubernetes-map-type";
const MAP_KEYS: &str = "x-kubernetes-list-map-keys";

type Node = Map<String, Value>;

/// Everything that is wrong with the schema that stands at `path`.
pub fn check(path: &Path, schema: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let Some(root) = schema.as_object() else { return errors };
    if flag(root, "nullable") {
        errors.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let place = Place { is_root: true, ..Place::default() };
    walk(path, root, &place, &mut errors);
    errors
}

/// The defaults of a schema that is fine otherwise, each against its own part of it.
pub fn check_defaults(path: &Path, schema: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(root) = schema.as_object() {
        defaults(path, root, true, &mut errors);
    }
    errors
}

/// Where in a schema a node is.
#[derive(Clone, Default)]
struct Place {
    is_root: bool,
    /// In metadata, kind or apiVersion of an object.
    in_meta: bool,
    /// Why no default may stand here.
    no_default: Option<&'static str>,
}

fn text<'a>(node: &'a Node, name: &str) -> &'a str {
    node.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(node: &Node, name: &str) -> bool {
    node.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn child<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    node.get(name).and_then(Value::as_object)
}

fn is_set(node: &Node, name: &str) -> bool {
    node.get(name).is_some_and(|value| !value.is_null())
}

fn walk(path: &Path, node: &Node, place: &Place, errors: &mut ErrorList) {
    keywords(path, node, place, errors);
    below(path, node, place, errors);
    if node.get(PRESERVE) == Some(&Value::Bool(false)) {
        errors.push(Error::invalid(&path.child(PRESERVE), false, "must be true or undefined"));
    }
    maps(path, node, errors);
    lists(path, node, errors);
    map_lists(path, node, errors);
}

fn keywords(path: &Path, node: &Node, place: &Place, errors: &mut ErrorList) {
    let form = text(node, "type");
    if !form.is_empty() && !TYPES.contains(&form) {
        errors.push(Error::not_supported(&path.child("type"), form, &TYPES));
    }
    if is_set(node, "default")
        && let Some(why) = place.no_default
    {
        errors.push(Error::forbidden(&path.child("default"), format!("must not be set {why}")));
    }
    for name in UNSUPPORTED.into_iter().filter(|name| is_set(node, name)) {
        errors.push(Error::forbidden(&path.child(name), format!("{name} is not supported")));
    }
    if node.get("items").is_some_and(Value::is_array) {
        errors.push(Error::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if place.in_meta && flag(node, EMBEDDED) {
        errors.push(Error::forbidden(&path.child(EMBEDDED), "must not be used inside of resource meta"));
    }
    if flag(node, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), why));
    }
}

fn below(path: &Path, node: &Node, place: &Place, errors: &mut ErrorList) {
    let properties = child(node, "properties");
    let inner = Place { is_root: false, ..place.clone() };
    if let Some(additional) = node.get("additionalProperties").filter(|value| !value.is_null()) {
        let path = path.child("additionalProperties");
        if properties.is_some_and(|known| !known.is_empty()) && *additional != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(Error::forbidden(&path, why));
        }
        if let Some(additional) = additional.as_object() {
            let mut inner = inner.clone();
            if place.in_meta {
                inner.no_default = Some("inside additionalProperties applying to object metadata");
            }
            walk(&path, additional, &inner, errors);
        }
    }
    for (name, property) in properties.into_iter().flatten() {
        let Some(property) = property.as_object() else { continue };
        let mut inner = inner.clone();
        if (place.is_root || flag(node, EMBEDDED)) && META.contains(&name.as_str()) {
            inner.in_meta = true;
            if place.is_root {
                inner.no_default = Some(match name.as_str() {
                    "metadata" => "in top-level metadata",
                    "kind" => "in top-level kind",
                    _ => "in top-level apiVersion",
                });
            }
        }
        walk(&path.child("properties").key(name.clone()), property, &inner, errors);
    }
    if let Some(not) = child(node, "not") {
        walk(&path.child("not"), not, &inner, errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        let branches = node.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        for (at, branch) in branches.filter_map(|(at, branch)| Some((at, branch.as_object()?))) {
            walk(&path.child(name).index(at), branch, &inner, errors);
        }
    }
    if let Some(items) = child(node, "items") {
        walk(&path.child("items"), items, &inner, errors);
    }
}

/// The type that an extension needs.
fn needs(path: &Path, node: &Node, wanted: &str, extension: &str, errors: &mut ErrorList) -> bool {
    let (form, at) = (text(node, "type"), path.child("type"));
    let why = format!("must be {wanted} if {extension} is specified");
    match form {
        "" => errors.push(Error::required(&at, why)),
        form if form != wanted => errors.push(Error::invalid(&at, form, why)),
        _ => return true,
    }
    false
}

fn maps(path: &Path, node: &Node, errors: &mut ErrorList) {
    let Some(kind) = node.get(MAP_TYPE).and_then(Value::as_str) else { return };
    needs(path, node, "object", MAP_TYPE, errors);
    if !matches!(kind, "atomic" | "granular") {
        errors.push(Error::not_supported(&path.child(MAP_TYPE), kind, &["atomic", "granular"]));
    }
}

fn lists(path: &Path, node: &Node, errors: &mut ErrorList) {
    let Some(kind) = node.get(LIST_TYPE).and_then(Value::as_str) else { return };
    let items = child(node, "items");
    if needs(path, node, "array", LIST_TYPE, errors)
        && kind == "set"
        && let Some(items) = items
    {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        for (form, extension, by_default) in [("array", LIST_TYPE, true), ("object", MAP_TYPE, false)] {
            let is_atomic = items.get(extension).map_or(by_default, |kind| kind == "atomic");
            if text(items, "type") == form && !is_atomic {
                let given = items.get(LIST_TYPE).cloned().unwrap_or_default();
                errors.push(Error::invalid(&path.child("items").child(extension), given, why));
            }
        }
    }
    if !matches!(kind, "atomic" | "set" | "map") {
        errors.push(Error::not_supported(&path.child(LIST_TYPE), kind, &["atomic", "map", "set"]));
    }
    if matches!(kind, "set" | "map") && items.is_some_and(|items| flag(items, "nullable")) {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(Error::forbidden(&path.child("items").child("nullable"), why));
    }
}

fn map_lists(path: &Path, node: &Node, errors: &mut ErrorList) {
    let keys: Vec<&str> = node
        .get(MAP_KEYS)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let kind = node.get(LIST_TYPE).and_then(Value::as_str);
    if kind != Some("map") {
        if !keys.is_empty() {
            let (at, why) = (path.child(LIST_TYPE), "must be map if x-kubernetes-list-map-keys is non-empty");
            errors
                .push(kind.map_or_else(|| Error::required(&at, why), |kind| Error::invalid(&at, kind, why)));
        }
        return;
    }
    let at = path.child(MAP_KEYS);
    if keys.is_empty() {
        errors.push(Error::required(&at, "must not be empty if x-kubernetes-list-type is map"));
    }
    let place = path.child("items");
    let Some(items) = child(node, "items") else {
        errors.push(Error::required(&place, "must have a schema if x-kubernetes-list-type is map"));
        return;
    };
    if text(items, "type") != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&place.child("type"), text(items, "type"), why));
        return;
    }
    let required = items.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, key) in keys.iter().enumerate() {
        let given = || Value::from(keys.iter().map(|key| Value::from(*key)).collect::<Vec<_>>());
        if keys[..index].contains(key) {
            errors.push(Error::invalid(&at, given(), "must not contain duplicate entries"));
        }
        let Some(property) = child(items, "properties").and_then(|known| child(known, key)) else {
            errors.push(Error::invalid(&at, given(), "entries must all be names of item properties"));
            continue;
        };
        let place = place.child("properties").key((*key).to_owned());
        if matches!(text(property, "type"), "array" | "object") {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(Error::invalid(&place.child("type"), text(items, "type"), why));
        }
        if !required.iter().any(|name| name == key) && !is_set(property, "default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&place.child("default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&place.child("nullable"), why));
        }
    }
}

fn defaults(path: &Path, node: &Node, is_root: bool, errors: &mut ErrorList) {
    if let Some(default) = node.get("default").filter(|default| !default.is_null()) {
        default_of(&path.child("default"), node, default, errors);
    }
    if let Some(items) = child(node, "items") {
        defaults(&path.child("items"), items, false, errors);
    }
    for (name, property) in child(node, "properties").into_iter().flatten() {
        // Metadata is held to its own type, wherever it comes from.
        let is_meta = (is_root || flag(node, EMBEDDED)) && META.contains(&name.as_str());
        if let Some(property) = property.as_object().filter(|_| !is_meta) {
            defaults(&path.child("properties").key(name.clone()), property, false, errors);
        }
    }
}

fn default_of(path: &Path, node: &Node, default: &Value, errors: &mut ErrorList) {
    let schema = Structural::parse(&Value::Object(node.clone()));
    let mut pruned = default.clone();
    schema.prune_part(&mut pruned);
    if pruned != *default {
        errors.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
    }
    for mut error in schema.validate(default) {
        let within = path.to_string();
        let below = |name: &str| match name {
            "" | "<nil>" => within.clone(),
            name if name.starts_with('[') => format!("{within}{name}"),
            name => format!("{within}.{name}"),
        };
        if let Some((place, rest)) = error.detail.split_once(" in body ") {
            error.detail = format!("{} in body {rest}", below(place));
        }
        error.field = below(&error.field);
        errors.push(error);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(schema: Value) -> Vec<String> {
        let path = Path::new("s");
        let mut errors = check(&path, &schema);
        errors.extend(check_defaults(&path, &schema));
        errors.iter().map(ToString::to_string).collect()
    }

    fn list(list: Value) -> Vec<String> {
        faults(json!({"type": "object", "properties": {"l": list}}))
    }

    #[test]
    fn lists_must_be_mergeable_by_what_they_say() {
        let item = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "port": {"type": "integer", "default": 80}, "more": {"type": "object"}}});
        let map = |keys: Value| json!({"type": "array", "items": item, LIST_TYPE: "map", MAP_KEYS: keys});
        assert_eq!(list(map(json!(["name", "port"]))), Vec::<String>::new());
        let l = "s.properties[l]";
        assert_eq!(
            list(map(json!([]))),
            [format!("{l}.{MAP_KEYS}: Required value: must not be empty if x-kubernetes-list-type is map")]
        );
        assert!(list(map(json!(["none"])))[0].contains("entries must all be names of item properties"));
        assert!(list(map(json!(["name", "name"])))[0].contains("must not contain duplicate entries"));
        assert!(list(map(json!(["more"])))[0].contains("must be a scalar type"));
        let set = json!({"type": "array", LIST_TYPE: "set", "items": {"type": "object"}});
        assert!(
            list(set)[0].contains("must be atomic as item of a list"),
            "objects are granular unless they say so"
        );
        assert_eq!(
            list(json!({"type": "string", LIST_TYPE: "set"})),
            [format!("{l}.type: Invalid value: \"string\": must be array if {LIST_TYPE} is specified")]
        );
        assert!(
            list(json!({"type": "object", MAP_TYPE: "some"}))[0]
                .contains("supported values: \"atomic\", \"granular\"")
        );
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let of = |name: &str, value: Value| {
            faults(json!({"type": "object", "properties": {"a": {"type": "object", name: value}}}))
        };
        assert_eq!(of("$ref", json!("#/x")), ["s.properties[a].$ref: Forbidden: $ref is not supported"]);
        assert!(of("uniqueItems", json!(true))[0].contains("quadratic"));
        assert!(of(PRESERVE, json!(false))[0].contains("must be true or undefined"));
        assert!(
            faults(json!({"type": "object", "properties": {"a": {"type": "null"}}}))[0]
                .contains("Unsupported value")
        );
        let both = json!({"type": "object", "properties": {"a": {"type": "object", "additionalProperties": {"type": "string"},
            "properties": {"b": {"type": "string"}}}}});
        assert!(faults(both)[0].contains("mutual exclusive"));
        let metadata =
            json!({"type": "object", "properties": {"metadata": {"type": "object", "default": {}}}});
        assert!(faults(metadata)[0].contains("must not be set in top-level metadata"));
    }

    #[test]
    fn defaults_are_held_to_their_own_schema() {
        let of = |schema: Value| faults(json!({"type": "object", "properties": {"a": schema}}));
        assert_eq!(of(json!({"type": "integer", "minimum": 1, "default": 1})), Vec::<String>::new());
        assert_eq!(
            of(json!({"type": "integer", "default": "one"})),
            [
                "s.properties[a].default: Invalid value: \"string\": s.properties[a].default in body must be of type integer: \"string\""
            ]
        );
        let unknown = json!({"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}});
        assert!(of(unknown)[0].contains("must not have unknown fields"));
        let nested = json!({"type": "object", "properties": {"b": {"type": "integer", "minimum": 2}}, "default": {"b": 1}});
        assert!(
            of(nested)[0].starts_with(
                "s.properties[a].default.b: Invalid value: 1: s.properties[a].default.b in body"
            )
        );
    }
}
