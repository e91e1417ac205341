//! A pod as plugins look at it: its containers, and the few things many of them ask.

use serde_json::{Map, Value};

pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The text at a place, empty where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list, none where there is no list.
pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The object at a place, made where there is none. `None`: something else is there.
pub fn object_at<'a>(holder: &'a mut Value, field: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = holder.as_object_mut()?.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut()
}

/// The list at a place, made where there is none. `None`: something else is there.
pub fn list_at<'a>(holder: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    let slot = holder.as_object_mut()?.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}

pub fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR_ANNOTATION).is_some()
}

/// A list of containers in a pod's spec, and what messages call one of them.
pub const CONTAINER_LISTS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// The names of Secrets that a container's environment reads, each with the variable (`None`: a whole Secret).
pub fn environment_secrets(container: &Value) -> impl Iterator<Item = (Option<&str>, &str)> {
    let single = items(&container["env"]).filter_map(|var| {
        Some((Some(text(&var["name"])), var["valueFrom"]["secretKeyRef"]["name"].as_str()?))
    });
    let whole =
        items(&container["envFrom"]).filter_map(|from| Some((None, from["secretRef"]["name"].as_str()?)));
    single.chain(whole)
}
