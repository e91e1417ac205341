//! Everything wrong with a pod, new or changed.

use std::collections::BTreeMap;

use knarr_api::field::{ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use crate::resources::at::{At, same};
use crate::resources::diff::diff;
use crate::resources::pod_spec::{self, Owner, containers, scheduling};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What holds for every pod at any time.
pub fn always(pod: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(pod);
    let spec = root.at("spec");
    pod_spec::validate_annotations(&root.at("metadata").at("annotations"), &spec, &mut errors);
    pod_spec::validate(&spec, &Owner::Pod(pod), &mut errors);
    if !spec.filled("serviceAccountName") {
        for source in spec.items("volumes").flat_map(|volume| volume.at("projected").items("sources")) {
            if let Some(token) = source.some("serviceAccountToken") {
                errors.push(token.forbidden("must not be specified when serviceAccountName is not set"));
            }
        }
    }
    for field in ["containers", "initContainers"] {
        spec.items(field).for_each(|container| containers::only_in_pods(&container, &mut errors));
    }
    errors
}

pub fn create(pod: &Value) -> ErrorList {
    let mut errors = always(pod);
    let root = At::root(pod);
    let spec = root.at("spec");
    if spec.filled("ephemeralContainers") {
        errors.push(spec.at("ephemeralContainers").forbidden("cannot be set on create"));
    }
    if spec.filled("nodeName") && spec.filled("schedulingGates") {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(spec.at("nodeName").forbidden(detail));
    }
    let annotations = root.at("metadata").at("annotations");
    pod_spec::validate_annotations_on_create(&annotations, &spec, &mut errors);
    errors
}

pub fn annotations_update(pod: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let of = |pod| At::root(pod).at("metadata").at("annotations");
    pod_spec::validate_annotations_update(&of(pod), &of(old), &mut errors);
    errors
}

pub fn update(pod: &Value, old: &Value) -> ErrorList {
    let mut errors = always(pod);
    errors.extend(annotations_update(pod, old));
    let (spec, old_spec) = (At::root(pod).at("spec"), At::root(old).at("spec"));
    for field in ["containers", "initContainers"] {
        if spec.list(field).len() != old_spec.list(field).len() {
            errors.push(spec.at(field).forbidden("pod updates may not add or remove containers"));
            return errors;
        }
    }
    if !deadline(&spec, &old_spec, &mut errors) {
        return errors;
    }
    tolerations(&spec, &old_spec, &mut errors);
    gates(&spec, &old_spec, &mut errors);
    if let (Some(new), Some(old)) = (spec.value(), old_spec.value()) {
        immutable_rest(new, old, &mut errors);
    }
    errors
}

/// False when upstream looks no further.
fn deadline(spec: &At<'_>, old: &At<'_>, errors: &mut ErrorList) -> bool {
    let at = spec.at("activeDeadlineSeconds");
    match (at.i64(), old.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            errors.push(at.invalid(names::inclusive_range(0, i32::MAX.into())));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.push(at.invalid("must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            errors.push(at.invalid_as(Value::Null, "must not update from a positive integer to nil value"));
            true
        }
        _ => true,
    }
}

fn tolerations(spec: &At<'_>, old: &At<'_>, errors: &mut ErrorList) {
    const FIELDS: [&str; 4] = ["key", "operator", "value", "effect"];
    let equal = |a: &Value, b: &Value| FIELDS.iter().all(|field| same(a.get(field), b.get(field)));
    let new = spec.list("tolerations");
    if old.list("tolerations").iter().any(|old| !new.iter().any(|new| equal(old, new))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(spec.at("tolerations").forbidden(detail));
        return;
    }
    scheduling::tolerations(spec.items("tolerations"), errors);
}

fn gates(spec: &At<'_>, old: &At<'_>, errors: &mut ErrorList) {
    let known: Vec<&str> =
        old.list("schedulingGates").iter().map(|gate| At::root(gate).text("name")).collect();
    for gate in spec.items("schedulingGates").filter(|gate| !known.contains(&gate.text("name"))) {
        let detail =
            format!("only deletion is allowed, but found new scheduling gate '{}'", gate.text("name"));
        errors.push(gate.at("name").forbidden(detail));
    }
}

/// Puts back what may change, and compares the rest.
fn immutable_rest(new: &Value, old: &Value, errors: &mut ErrorList) {
    if new == old {
        return;
    }
    let mut munged = new.clone();
    for field in ["containers", "initContainers"] {
        let olds = old.get(field).and_then(Value::as_array).into_iter().flatten();
        let news = munged.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
        news.zip(olds).for_each(|(new, old)| put_back(new, old, "image"));
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put_back(&mut munged, old, field);
    }
    let grace = |of: &Value| of.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(&munged) == Some(1) {
        put_back(&mut munged, old, "terminationGracePeriodSeconds");
    }
    let is_gated =
        old.get("schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty());
    if is_gated {
        narrower(&mut munged, old, errors);
    }
    if munged != *old {
        let detail =
            format!("pod updates may not change fields other than {UPDATABLE}\n{}", diff(old, &munged));
        errors.push(knarr_api::field::Error::forbidden(&Path::new("spec"), detail));
    }
}

pub fn put_back(new: &mut Value, old: &Value, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => {
            fields.insert(field.to_owned(), value.clone());
        }
        None => {
            fields.remove(field);
        }
    }
}

/// A pod that is not yet to be scheduled may be confined to fewer nodes.
fn narrower(new: &mut Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let entries = |of: &Value| -> BTreeMap<String, Value> {
        let map = of.get("nodeSelector").and_then(Value::as_object).into_iter().flatten();
        map.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let (wanted, known) = (entries(new), entries(old));
    if known.iter().any(|(key, value)| wanted.get(key) != Some(value)) {
        let at = At::new(new.get("nodeSelector"), path.child("nodeSelector"));
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(at.invalid(detail));
    }
    put_back(new, old, "nodeSelector");
    let path = path.child("affinity").child("nodeAffinity");
    let affinity = |of: &Value| of.pointer("/affinity/nodeAffinity").cloned();
    let (wanted, known) = (affinity(new), affinity(old));
    if wanted == known {
        return;
    }
    node_affinity(wanted.as_ref(), known.as_ref(), &path, errors);
    match (new.get("affinity").is_some(), known) {
        (true, known) => {
            let old_affinity = old.get("affinity").cloned();
            let affinity = &mut new["affinity"];
            match known {
                Some(known) => affinity["nodeAffinity"] = known,
                None => {
                    affinity.as_object_mut().map(|fields| fields.remove("nodeAffinity"));
                }
            }
            if old_affinity.is_none() && affinity.as_object().is_some_and(serde_json::Map::is_empty) {
                put_back(new, old, "affinity");
            }
        }
        (false, Some(known)) => new["affinity"] = serde_json::json!({"nodeAffinity": known}),
        (false, None) => {}
    }
}

fn node_affinity(new: Option<&Value>, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |affinity: Option<&Value>| -> Vec<Value> {
        let selector = affinity.and_then(|affinity| affinity.get(REQUIRED));
        let terms = selector.and_then(|selector| selector.get("nodeSelectorTerms")).and_then(Value::as_array);
        terms.cloned().unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    let path = path.child(REQUIRED).child("nodeSelectorTerms");
    if !old.is_empty() && old.len() != new.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(knarr_api::field::Error::invalid(&path, Value::from(new), detail));
        return;
    }
    for (i, (old, new)) in old.iter().zip(&new).enumerate() {
        if !only_adds(new, old) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(knarr_api::field::Error::invalid(&path.index(i), new, detail));
        }
    }
}

fn only_adds(new: &Value, old: &Value) -> bool {
    const FIELDS: [&str; 2] = ["matchExpressions", "matchFields"];
    let list = |of: &Value, field: &str| of.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    if FIELDS.iter().all(|field| list(old, field).is_empty()) {
        return FIELDS.iter().all(|field| list(new, field).is_empty());
    }
    FIELDS.iter().all(|field| list(new, field).starts_with(&list(old, field)))
}
