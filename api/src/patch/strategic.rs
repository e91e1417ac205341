//! Strategic merge patch: a merge patch that knows from the type which lists merge, and by which key.
//!
//! Directives in the patch: `$patch: replace|delete|merge`, `$deleteFromPrimitiveList/<list>`,
//! `$setElementOrder/<list>` and `$retainKeys`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::field::quote;
use crate::schema::{PatchStrategy, Shape, TypeRef};

use super::fmt::{Go, GoList, type_name};
use super::order::{identity, normalize};
use super::{OBJECT, PatchError, document, not_a};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Reads a strategic merge patch.
///
/// # Errors
/// It is no JSON object.
pub fn parse(text: &[u8]) -> Result<Map<String, Value>, PatchError> {
    match document(text).map_err(PatchError::Malformed)? {
        Value::Object(patch) => Ok(patch),
        Value::Null => Ok(Map::new()),
        other => Err(PatchError::Malformed(not_a(OBJECT, &other))),
    }
}

/// The answer for types without patch metadata, which custom resources are.
pub fn unsupported() -> PatchError {
    PatchError::Malformed("strategic merge patch format is not supported".to_owned())
}

/// Applies `patch` to `original`, an object of type `of`. After an error `original` is half changed.
///
/// # Errors
/// A directive that is malformed, or a patch that does not fit the type.
pub fn apply(
    original: &mut Map<String, Value>,
    patch: Map<String, Value>,
    of: &TypeRef,
) -> Result<(), PatchError> {
    merge_map(original, patch, Schema::Struct(of))
}

/// What is known of an object or of a list's items.
#[derive(Clone, Copy)]
enum Schema<'a> {
    Struct(&'a TypeRef),
    /// Values of a map with arbitrary keys.
    Map(&'a Shape),
    /// Nothing that has fields; the name is Go's.
    Opaque(&'static str),
}

/// What is known of a field.
struct FieldMeta<'a> {
    shape: &'a Shape,
    strategy: PatchStrategy,
    merge_key: Option<&'a str>,
}

impl<'a> Schema<'a> {
    fn of(shape: &'a Shape) -> Self {
        match shape {
            Shape::Struct(of) => Self::Struct(of),
            Shape::Map(map) => Self::Map(&map.value),
            Shape::List(_) => Self::Opaque("slice"),
            Shape::Any | Shape::Object | Shape::OneOf(_) => Self::Opaque("RawExtension"),
            Shape::Bool => Self::Opaque("bool"),
            _ => Self::Opaque("string"),
        }
    }

    fn field(self, name: &str) -> Result<FieldMeta<'a>, PatchError> {
        match self {
            Self::Struct(of) => {
                let of: &'a crate::schema::Type = of;
                let field = of.field(name).ok_or_else(|| no_field(of.short_name(), name))?;
                let merge_key = field.patch_merge_key.as_deref();
                Ok(FieldMeta { shape: &field.shape, strategy: field.patch, merge_key })
            }
            Self::Map(shape) => Ok(FieldMeta { shape, strategy: PatchStrategy::default(), merge_key: None }),
            Self::Opaque(name_in_go) => Err(no_field(name_in_go, name)),
        }
    }

    /// The field `name`, which must be a list, and what its items are.
    fn list(self, name: &str) -> Result<(FieldMeta<'a>, Schema<'a>), PatchError> {
        let meta = self.field(name)?;
        let items = match meta.shape {
            Shape::List(list) => Schema::of(&list.item),
            other => Schema::of(other),
        };
        Ok((meta, items))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Struct(_) => "struct",
            Self::Map(_) => "map",
            Self::Opaque(name) => name,
        }
    }
}

fn no_field(of: &str, name: &str) -> PatchError {
    PatchError::Internal(format!(
        "unable to find api field in struct {of} for the json field {}",
        quote(name)
    ))
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::Internal(format!("map: {} does not contain declared merge key: {key}", Go(item)))
}

fn bad_type(expected: &str, actual: &Value) -> PatchError {
    PatchError::Internal(format!("expected a {expected}, but received a {}", type_name(actual)))
}

fn malformed(message: &str) -> PatchError {
    PatchError::Malformed(message.to_owned())
}

fn merge_map(original: &mut Object, mut patch: Object, schema: Schema<'_>) -> Result<(), PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                *original = patch;
            }
            Some("delete") => original.clear(),
            _ => return Err(unknown_directive(directive, &Value::Object(patch.clone()))),
        }
        return Ok(());
    }
    retain_keys(original, &mut patch)?;
    set_element_orders(original, &mut patch, schema)?;
    delete_from_primitive_lists(original, &mut patch, schema)?;
    for (key, value) in patch {
        merge_field(original, key, value, schema)?;
    }
    Ok(())
}

fn unknown_directive(directive: &Value, item: &Value) -> PatchError {
    PatchError::Internal(format!("unknown patch type: {} in map: {}", Go(directive), Go(item)))
}

/// `$retainKeys`: keys of `original` that are not listed go.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    const BAD: &str = "invalid patch format of retainKeys";
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(retained) = retained else {
        return Err(malformed(BAD));
    };
    let retained: HashSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let is_listed = |(key, value): (&String, &Value)| {
        value.is_null()
            || key.starts_with(DELETE_FROM)
            || key.starts_with(SET_ORDER)
            || retained.contains(key.as_str())
    };
    if !patch.iter().all(is_listed) {
        return Err(malformed(BAD));
    }
    original.retain(|key, _| retained.contains(key.as_str()));
    Ok(())
}

/// Takes out of `patch` the fields that begin with `prefix` and a slash, with the name after it.
fn take_directives(patch: &mut Object, prefix: &str, bad: &str) -> Result<Vec<(String, Value)>, PatchError> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let name =
            key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).ok_or_else(|| malformed(bad))?;
        let value = patch.remove(&key).unwrap_or_default();
        found.push((name.to_owned(), value));
    }
    Ok(found)
}

fn delete_from_primitive_lists(
    original: &mut Object,
    patch: &mut Object,
    schema: Schema<'_>,
) -> Result<(), PatchError> {
    for (name, deleted) in take_directives(patch, DELETE_FROM, "invalid patch format of primitive list")? {
        if deleted.is_null() {
            original.remove(&name);
            continue;
        }
        let (Some(Value::Array(list)), Value::Array(deleted)) = (original.get_mut(&name), deleted) else {
            continue;
        };
        schema.list(&name)?;
        element_kind(list.iter().chain(&deleted))?;
        let deleted: HashSet<Value> = deleted.into_iter().collect();
        list.retain(|item| !deleted.contains(item));
    }
    Ok(())
}

/// `$setElementOrder/<list>`: merges the list and puts it in the order given.
fn set_element_orders(
    original: &mut Object,
    patch: &mut Object,
    schema: Schema<'_>,
) -> Result<(), PatchError> {
    const LIST: &str = "[]interface {}";
    for (name, order) in take_directives(patch, SET_ORDER, "invalid patch format of setElementOrder list")? {
        let Value::Array(order) = order else {
            return Err(bad_type(LIST, &order));
        };
        let current = original.get(&name);
        if let Some(wrong) = [current, patch.get(&name)].into_iter().flatten().find(|value| !value.is_array())
        {
            return Err(bad_type(LIST, wrong));
        }
        let (meta, items) = schema.list(&name)?;
        let patched = match patch.remove(&name) {
            Some(Value::Array(patched)) => Some(patched),
            _ => None,
        };
        check_order(patched.as_deref().unwrap_or_default(), &order, meta.merge_key)?;
        let before = match current {
            Some(Value::Array(before)) => Some(before.clone()),
            _ => None,
        };
        let everything = || before.iter().flatten().chain(patched.iter().flatten());
        let kind = if before.is_some() || patched.is_some() { element_kind(everything()) } else { continue };
        let server_order = before.clone().unwrap_or_default();
        let merged = match (before, patched) {
            (Some(before), None) => before,
            (None, Some(patched)) => match remove_directives(Value::Array(patched)) {
                Some(Value::Array(patched)) => patched,
                _ => continue,
            },
            (Some(before), Some(patched)) => merge_list(before, patched, items, &meta)?,
            (None, None) => continue,
        };
        let merge_key = meta.merge_key.filter(|_| kind == Ok(Kind::Map));
        if kind? == Kind::Map {
            let key = meta.merge_key.unwrap_or_default();
            require_merge_key(merged.iter().chain(&order), key)?;
        }
        original.insert(name, Value::Array(normalize(merged, &order, &server_order, merge_key)));
    }
    Ok(())
}

fn require_merge_key<'a>(items: impl Iterator<Item = &'a Value>, key: &str) -> Result<(), PatchError> {
    for item in items {
        if !item.is_object() {
            return Err(bad_type("map[string]interface {}", item));
        }
        if item.get(key).is_none() {
            return Err(no_merge_key(item, key));
        }
    }
    Ok(())
}

/// Items of the patch must stand in the order that the patch asks for.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let has_directive = |item: &Value| item.get(DIRECTIVE).is_some();
    let deleted = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let mut rest = patch.iter().filter(|item| !deleted(item)).peekable();
    let mut ordered = order.iter();
    while let Some(item) = rest.peek() {
        if has_directive(item) {
            rest.next();
            continue;
        }
        let Some(next) = ordered.next() else {
            return Err(PatchError::Internal(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                GoList(patch),
                GoList(order)
            )));
        };
        if let Some(key) = merge_key {
            require_merge_key([*item, next].into_iter(), key)?;
        }
        if identity(item, merge_key) == identity(next, merge_key) {
            rest.next();
        }
    }
    Ok(())
}

fn merge_field(
    original: &mut Object,
    key: String,
    patch: Value,
    schema: Schema<'_>,
) -> Result<(), PatchError> {
    if patch.is_null() {
        original.remove(&key);
        return Ok(());
    }
    match (original.get_mut(&key), patch) {
        (Some(Value::Object(current)), Value::Object(patch)) => {
            let meta = schema.field(&key)?;
            if meta.strategy.replace {
                *current = patch;
                return Ok(());
            }
            merge_map(current, patch, Schema::of(meta.shape))
        }
        (Some(Value::Array(current)), Value::Array(patch)) => {
            let (meta, items) = schema.list(&key)?;
            let before = std::mem::take(current);
            *current = merge_list(before, patch, items, &meta)?;
            Ok(())
        }
        (_, mut patch) => {
            discard_nulls(&mut patch);
            match remove_directives(patch) {
                Some(value) => original.insert(key, value),
                None => original.remove(&key),
            };
            Ok(())
        }
    }
}

/// A null deletes; what is new has nothing to delete.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// A value without the objects that hold a directive; none if it is such an object itself.
fn remove_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) => {
            if fields.contains_key(DIRECTIVE) {
                return None;
            }
            let kept = fields.into_iter().filter_map(|(key, field)| Some((key, remove_directives(field)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(remove_directives).collect())),
        other => Some(other),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Map,
    Scalar,
}

/// Whether the items are objects or scalars: all must be the same.
fn element_kind<'a>(mut items: impl Iterator<Item = &'a Value> + Clone) -> Result<Kind, PatchError> {
    let all = items.clone();
    let Some(first) = items.next() else {
        return Err(PatchError::Internal("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    if first.is_null() || items.any(|item| type_name(item) != type_name(first)) {
        let items: Vec<Value> = all.cloned().collect();
        return Err(PatchError::Internal(format!(
            "list element types are not identical: {}",
            GoList(&items)
        )));
    }
    Ok(if first.is_object() { Kind::Map } else { Kind::Scalar })
}

fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    items: Schema<'_>,
    meta: &FieldMeta<'_>,
) -> Result<Vec<Value>, PatchError> {
    if !meta.strategy.merge {
        return Ok(patch);
    }
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    match element_kind(original.iter().chain(&patch))? {
        Kind::Scalar => {
            let mut seen = HashSet::new();
            let both = original.iter().chain(&patch).filter(|item| seen.insert(*item)).cloned().collect();
            Ok(normalize(both, &patch, &original, None))
        }
        Kind::Map => {
            let key = meta.merge_key.ok_or_else(|| {
                PatchError::Internal(format!("cannot merge lists without merge key for {}", items.name()))
            })?;
            merge_objects(original, patch, items, key)
        }
    }
}

fn merge_objects(
    original: Vec<Value>,
    patch: Vec<Value>,
    items: Schema<'_>,
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    let (before, patch) = apply_item_directives(original, patch, key)?;
    let mut merged = before.clone();
    // Positions by key; upstream takes the first item of equal keys.
    let mut places = std::collections::HashMap::with_capacity(merged.len());
    for (i, item) in merged.iter().enumerate() {
        if let Some(identity) = item.get(key) {
            places.entry(identity.clone()).or_insert(i);
        }
    }
    for item in &patch {
        let identity = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        match places.get(identity) {
            Some(place) => {
                if let (Value::Object(current), Value::Object(item)) = (&mut merged[*place], item) {
                    merge_map(current, item.clone(), items)?;
                }
            }
            None => {
                places.insert(identity.clone(), merged.len());
                merged.push(item.clone());
            }
        }
    }
    require_merge_key(merged.iter(), key)?;
    Ok(normalize(merged, &patch, &before, Some(key)))
}

/// Carries out `$patch` in items: gives the list without deleted items, and the items left to merge.
fn apply_item_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut deleted = HashSet::new();
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                deleted.insert(item.get(key).ok_or_else(|| no_merge_key(&item, key))?.clone());
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let message = "merging lists cannot yet be specified in the patch";
                return Err(PatchError::Internal(message.to_owned()));
            }
            _ => return Err(unknown_directive(directive, &item)),
        }
    }
    if replace {
        return Ok((plain, Vec::new()));
    }
    original.retain(|item| !item.get(key).is_some_and(|identity| deleted.contains(identity)));
    Ok((original, plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Values with the names and directives that matter for pods.
    fn values() -> impl Strategy<Value = Value> {
        let scalar =
            prop::sample::select(vec![json!(null), json!(1), json!("a"), json!("delete"), json!("replace")]);
        scalar.prop_recursive(5, 32, 4, |inner| {
            let name = prop::sample::select(vec![
                "spec",
                "containers",
                "name",
                "metadata",
                "finalizers",
                "labels",
                "$patch",
                "$retainKeys",
                "$setElementOrder/containers",
                "$deleteFromPrimitiveList/finalizers",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_patch_applies_or_fails(original in values(), patch in values()) {
            if let (Value::Object(mut original), Value::Object(patch)) = (original, patch) {
                let _: Result<(), PatchError> = apply(&mut original, patch, &pod());
            }
        }
    }

    fn pod() -> TypeRef {
        crate::schema::by_name("io.k8s.api.core.v1.Pod").expect("pods are known")
    }

    fn patched(of: &TypeRef, original: Value, patch: Value) -> Result<Value, String> {
        let (Value::Object(mut original), Value::Object(patch)) = (original, patch) else {
            panic!("objects wanted");
        };
        apply(&mut original, patch, of).map_err(|error| error.to_string())?;
        Ok(Value::Object(original))
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"containers": list}})
    }

    #[test]
    fn lists_merge_by_their_key() {
        let original = containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]));
        let patch = containers(json!([{"name": "b", "image": "2"}, {"name": "c", "image": "1"}]));
        let result = containers(
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "1"}]),
        );
        assert_eq!(patched(&pod(), original, patch), Ok(result));
    }

    #[test]
    fn items_are_deleted_and_lists_replaced_by_directive() {
        let original = || containers(json!([{"name": "a"}, {"name": "b"}]));
        let delete = containers(json!([{"name": "a", "$patch": "delete"}]));
        assert_eq!(patched(&pod(), original(), delete), Ok(containers(json!([{"name": "b"}]))));
        let replace = containers(json!([{"$patch": "replace"}, {"name": "x"}]));
        assert_eq!(patched(&pod(), original(), replace), Ok(containers(json!([{"name": "x"}]))));
        let map = json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}});
        let labels = json!({"metadata": {"labels": {"a": "1"}}});
        assert_eq!(patched(&pod(), labels, map), Ok(json!({"metadata": {"labels": {"b": "2"}}})));
    }

    #[test]
    fn element_order_is_set() {
        let original = containers(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]));
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "n"}],
            "containers": [{"name": "n", "image": "1"}],
        }});
        let result =
            containers(json!([{"name": "b"}, {"name": "c"}, {"name": "a"}, {"name": "n", "image": "1"}]));
        assert_eq!(patched(&pod(), original, patch), Ok(result));
    }

    #[test]
    fn primitive_lists_merge_and_shrink() {
        let original = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]}});
        let result = json!({"metadata": {"finalizers": ["d", "a", "c"]}});
        assert_eq!(patched(&pod(), original, patch), Ok(result));
    }

    #[test]
    fn keys_not_retained_are_cleared() {
        let deployment =
            crate::schema::by_name("io.k8s.api.apps.v1.Deployment").expect("deployments are known");
        let original =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(
            patched(&deployment, original.clone(), patch),
            Ok(json!({"spec": {"strategy": {"type": "Recreate"}}}))
        );
        let wrong = json!({"spec": {"strategy": {"$retainKeys": [], "type": "Recreate"}}});
        assert_eq!(
            patched(&deployment, original, wrong),
            Err("invalid patch format of retainKeys".to_owned())
        );
    }

    #[test]
    fn what_does_not_fit_is_told_in_upstreams_words() {
        let original = || containers(json!([{"name": "a"}]));
        for (patch, message) in [
            (
                containers(json!([{"image": "1"}])),
                "map: map[image:1] does not contain declared merge key: name",
            ),
            (
                containers(json!([{"name": "a", "$patch": "x"}])),
                "unknown patch type: x in map: map[$patch:x name:a]",
            ),
            (containers(json!(["a"])), "list element types are not identical: [map[name:a] a]"),
            (json!({"spec": {"$deleteFromPrimitiveList": []}}), "invalid patch format of primitive list"),
            (
                json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
                "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
            ),
        ] {
            assert_eq!(patched(&pod(), original(), patch), Err(message.to_owned()));
        }
    }

    #[test]
    fn nulls_delete() {
        let original = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        let patch = json!({"metadata": {"labels": {"a": null}, "annotations": {"x": null, "y": "1"}}});
        assert_eq!(
            patched(&pod(), original, patch),
            Ok(json!({"metadata": {"labels": {"b": "2"}, "annotations": {"y": "1"}}}))
        );
    }
}
