//! Validation of the metadata that every object has, with upstream's messages.

use knarr_api::field::{Error, ErrorList, IMMUTABLE, Path};
use knarr_api::names;
use serde_json::{Map, Value};

use crate::object;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Everything wrong with a new object's metadata. `name_rule` is asked about name and generateName.
pub fn validate(object: &Value, namespaced: bool, name_rule: fn(&str, bool) -> Vec<String>) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = ErrorList::new();
    let generate_name = object::meta_str(object, "generateName");
    if !generate_name.is_empty() {
        let at = path.child("generateName");
        errors.extend(
            name_rule(generate_name, true).into_iter().map(|m| Error::invalid(&at, generate_name, m)),
        );
    }
    let name = object::name(object);
    let at = path.child("name");
    if name.is_empty() {
        errors.push(Error::required(&at, "name or generateName is required"));
    } else {
        errors.extend(name_rule(name, false).into_iter().map(|m| Error::invalid(&at, name, m)));
    }
    errors.extend(validate_namespace(object::namespace(object), namespaced, &path.child("namespace")));
    let generation = object::meta_i64(object, "generation").unwrap_or_default();
    if generation < 0 {
        errors.push(Error::invalid(
            &path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(validate_common(object, &path));
    errors.extend(validate_finalizers(object, &path.child("finalizers")));
    errors
}

fn validate_namespace(namespace: &str, namespaced: bool, path: &Path) -> ErrorList {
    match (namespaced, namespace) {
        (true, "") => Error::required(path, "").into(),
        (true, _) => names::name_is_dns_label(namespace, false)
            .into_iter()
            .map(|m| Error::invalid(path, namespace, m))
            .collect(),
        (false, "") => ErrorList::new(),
        (false, _) => Error::forbidden(path, "not allowed on this type").into(),
    }
}

/// Everything wrong with the metadata of an update, beside what is wrong with it in itself.
pub fn validate_update(object: &Value, old: &Value) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = ErrorList::new();
    if object::is_deleting(old) {
        errors.extend(no_new_finalizers(object, old, &path.child("finalizers")));
    }
    if object::meta_str(object, "resourceVersion").is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = object::meta_i64(object, "generation").unwrap_or_default();
    if generation < object::meta_i64(old, "generation").unwrap_or_default() {
        errors.push(Error::invalid(&path.child("generation"), generation, "must not be decremented"));
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let value =
            |o: &Value| object::metadata(o).and_then(|m| m.get(field)).cloned().unwrap_or(Value::Null);
        let (new, old) = (value(object), value(old));
        if new != old && !(is_unset(&new) && is_unset(&old)) {
            errors.push(Error::invalid(&path.child(field), new, IMMUTABLE));
        }
    }
    errors.extend(validate_common(object, &path));
    errors
}

fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

fn validate_common(object: &Value, path: &Path) -> ErrorList {
    let empty = Map::new();
    let metadata = object::metadata(object).unwrap_or(&empty);
    let map = |field: &str| metadata.get(field).and_then(Value::as_object).unwrap_or(&empty);
    let mut errors = names::validate_labels(map("labels"), &path.child("labels"));
    errors.extend(names::validate_annotations(map("annotations"), &path.child("annotations")));
    errors.extend(validate_owners(metadata, &path.child("ownerReferences")));
    errors
}

fn validate_owners(metadata: &Map<String, Value>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let references =
        metadata.get("ownerReferences").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut controller: Option<String> = None;
    for reference in references {
        let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
        if text("apiVersion").is_empty() {
            errors.push(Error::invalid(
                &path.child("apiVersion"),
                text("apiVersion"),
                "version must not be empty",
            ));
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            errors.push(Error::invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if reference.get("controller").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        let this = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(Error::invalid(path, &metadata["ownerReferences"], detail));
            }
        }
    }
    errors
}

fn validate_finalizers(object: &Value, path: &Path) -> ErrorList {
    let finalizers = object::finalizers(object);
    let mut errors = ErrorList::new();
    for name in &finalizers {
        errors.extend(
            names::qualified_name(name).into_iter().map(|message| Error::invalid(path, *name, message)),
        );
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        errors.push(Error::invalid(path, Value::from(finalizers), detail));
    }
    errors
}

fn no_new_finalizers(object: &Value, old: &Value, path: &Path) -> Option<Error> {
    let known = object::finalizers(old);
    let mut extra: Vec<&str> =
        object::finalizers(object).into_iter().filter(|name| !known.contains(name)).collect();
    if extra.is_empty() {
        return None;
    }
    extra.sort_unstable();
    let listed: Vec<String> = extra.iter().map(|name| format!("{name:?}")).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        listed.join(", ")
    );
    Some(Error::forbidden(path, detail))
}
