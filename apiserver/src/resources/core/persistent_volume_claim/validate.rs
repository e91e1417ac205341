//! Everything wrong with a claim for storage.

use knarr_api::field::{Error, ErrorList, IMMUTABLE, Path};
use knarr_api::names;
use knarr_api::quantity::Quantity;
use serde_json::Value;

use crate::resources::at::{At, same};
use crate::resources::diff::diff;
use crate::resources::pod_spec::{amounts, scheduling};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// `accessModes` of a volume or a claim.
pub fn access_modes(spec: &At<'_>, errors: &mut ErrorList) {
    let at = spec.at("accessModes");
    let (mut once_pod, mut other) = (false, false);
    for mode in spec.texts("accessModes") {
        let known = ACCESS_MODES.contains(&mode);
        if !known {
            errors.push(Error::not_supported(at.path(), mode, &ACCESS_MODES));
        }
        once_pod |= mode == "ReadWriteOncePod";
        other |= known && mode != "ReadWriteOncePod";
    }
    if once_pod && other {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

pub fn spec(spec: &At<'_>, lax_api_group: bool, errors: &mut ErrorList) {
    if spec.list("accessModes").is_empty() {
        errors.push(spec.at("accessModes").required("at least 1 access mode is required"));
    }
    scheduling::label_selector(&spec.at("selector"), errors);
    access_modes(spec, errors);
    storage(spec, errors);
    if spec.filled("storageClassName") {
        spec.at("storageClassName").check(errors, names::dns_subdomain);
    }
    if let Some(mode) = spec.some("volumeMode") {
        mode.one_of(errors, &VOLUME_MODES);
    }
    data_sources(spec, lax_api_group, errors);
    if spec.filled("volumeAttributesClassName") {
        spec.at("volumeAttributesClassName").check(errors, names::dns_subdomain);
    }
}

fn storage(spec: &At<'_>, errors: &mut ErrorList) {
    let resources = spec.at("resources");
    let asked = resources.get("requests").and_then(|requests| requests.get("storage"));
    let at = At::new(asked, resources.path().key("storage"));
    if asked.is_none() {
        errors.push(at.required(""));
    } else if amounts::positive(&at, errors) {
        amounts::amount("storage", &at, errors);
    }
}

fn data_sources(spec: &At<'_>, lax_api_group: bool, errors: &mut ErrorList) {
    let (source, reference) = (spec.some("dataSource"), spec.some("dataSourceRef"));
    for at in [&source, &reference].into_iter().flatten() {
        at.at("name").require_text(errors);
        at.at("kind").require_text(errors);
        let group = at.at("apiGroup");
        if group.str().is_empty() && at.text("kind") != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(at.invalid_as(at.text("kind"), detail));
        }
        if !group.str().is_empty() && !lax_api_group {
            group.check(errors, names::dns_subdomain);
        }
    }
    let Some(reference) = reference else { return };
    let namespace = reference.at("namespace");
    if !namespace.str().is_empty() {
        namespace.check(errors, names::dns_label);
    }
    let Some(source) = source else { return };
    let place = spec.path().child("dataSource").to_string();
    if !namespace.str().is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(spec.invalid_as(place, detail));
    } else if ["apiGroup", "kind", "name"].iter().any(|field| source.get(field) != reference.get(field)) {
        errors.push(spec.invalid_as(place, "must match dataSourceRef"));
    }
}

/// A claim that is made for each pod.
pub fn template(template: &At<'_>, errors: &mut ErrorList) {
    let metadata = template.at("metadata");
    if let Some(entries) = metadata.get("annotations").and_then(Value::as_object) {
        errors.extend(names::validate_annotations(entries, metadata.at("annotations").path()));
    }
    if let Some(entries) = metadata.get("labels").and_then(Value::as_object) {
        errors.extend(names::validate_labels(entries, metadata.at("labels").path()));
    }
    for (field, value) in metadata.value().and_then(Value::as_object).into_iter().flatten() {
        let allowed = matches!(field.as_str(), "annotations" | "labels");
        if !allowed && !crate::resources::fill::is_zero(value) {
            let path = metadata.path().child(field.clone());
            errors.push(Error::forbidden(&path, "cannot be set"));
        }
    }
    spec(&template.at("spec"), false, errors);
}

pub fn update(claim: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (root, was) = (At::root(claim), At::root(old));
    let (new_spec, old_spec) = (root.at("spec"), was.at("spec"));
    let lax = ["dataSource", "dataSourceRef"].into_iter().any(|field| old_spec.at(field).has("apiGroup"));
    spec(&new_spec, lax, &mut errors);
    let annotation = |of: &At<'_>| {
        of.at("metadata").at("annotations").get(BETA_CLASS).and_then(Value::as_str).map(str::to_owned)
    };
    let mut munged = new_spec.value().cloned().unwrap_or_default();
    let mut before = old_spec.value().cloned().unwrap_or_default();
    if !old_spec.filled("volumeName") {
        super::put(&mut before, "volumeName", munged.get("volumeName").cloned());
    }
    let (new_class, old_class) = (new_spec.get("storageClassName"), old_spec.get("storageClassName"));
    let (new_note, old_note) = (annotation(&root), annotation(&was));
    let new_class_text = new_class.and_then(Value::as_str);
    let upgrades = old_note.is_some()
        && old_class.is_none()
        && new_class_text == old_note.as_deref()
        && (new_note.is_none() || new_note == old_note);
    if upgrades {
        super::put(&mut munged, "storageClassName", None);
    } else {
        if new_note != old_note {
            let path = Path::new("metadata").child("annotations").child(BETA_CLASS);
            errors.push(Error::invalid(&path, new_note.unwrap_or_default(), IMMUTABLE));
        }
        let fits = old_note.is_none() || new_class_text == old_note.as_deref();
        if new_class.is_some() && old_class.is_none() && fits {
            super::put(&mut munged, "storageClassName", None);
        }
    }
    if root.at("status").text("phase") == "Bound" {
        let asked =
            old_spec.at("resources").get("requests").and_then(|requests| requests.get("storage")).cloned();
        if let Some(requests) = munged.pointer_mut("/resources/requests") {
            super::put(requests, "storage", asked);
        }
        super::put(
            &mut munged,
            "volumeAttributesClassName",
            old_spec.get("volumeAttributesClassName").cloned(),
        );
    }
    if munged != before {
        let shown = diff(&before, &munged);
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{shown}"
        );
        errors.push(new_spec.forbidden(detail));
    }
    sizes(&new_spec, &old_spec, &was, &mut errors);
    let mode = At::new(new_spec.get("volumeMode"), Path::new("volumeMode"));
    mode.immutable(&mut errors, &old_spec.at("volumeMode"));
    attributes_class(&new_spec, &old_spec, &was, &mut errors);
    errors
}

fn sizes(new: &At<'_>, old: &At<'_>, was: &At<'_>, errors: &mut ErrorList) {
    let amount = |at: Option<&Value>| {
        at.and_then(|at| Quantity::from_json(at.get("storage")?).ok()).unwrap_or_default()
    };
    let size = |spec: &At<'_>| amount(spec.at("resources").get("requests"));
    if size(new) < size(old) && size(new) <= amount(was.at("status").get("capacity")) {
        let path = new.path().child("resources").child("requests").child("storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
}

fn attributes_class(new: &At<'_>, old: &At<'_>, was: &At<'_>, errors: &mut ErrorList) {
    let class = new.at("volumeAttributesClassName");
    let changed = !same(class.value(), old.get("volumeAttributesClassName"));
    if changed && was.at("status").has("currentVolumeAttributesClassName") {
        let to = match class.value() {
            None => "nil",
            Some(_) if class.str().is_empty() => "empty string",
            Some(_) => return,
        };
        let detail =
            format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(class.forbidden(detail));
    }
}

pub fn status_update(claim: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(claim);
    if root.at("spec").list("accessModes").is_empty() {
        errors.push(Error::required(&Path::new("Spec").child("accessModes"), ""));
    }
    let status = root.at("status");
    for (_, amount) in status.entries("capacity") {
        basic(&amount, &mut errors);
    }
    let states = status.at("allocatedResourceStatuses");
    for (name, state) in status.entries("allocatedResourceStatuses") {
        resource_key(name, &states, &mut errors);
        if !RESIZE_STATES.contains(&state.str()) {
            errors.push(Error::not_supported(states.path(), name, &RESIZE_STATES));
        }
    }
    let allocated = status.at("allocatedResources");
    for (name, amount) in status.entries("allocatedResources") {
        if resource_key(name, &allocated, &mut errors) && basic(&amount, &mut errors) {
            amounts::amount("storage", &amount, &mut errors);
        }
    }
    errors
}

fn resource_key(name: &str, at: &At<'_>, errors: &mut ErrorList) -> bool {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        errors.extend(wrong.into_iter().map(|wrong| at.invalid_as(name, wrong)));
        return false;
    }
    let fits = !amounts::is_native(name) || name == "storage";
    if !fits {
        errors.push(Error::not_supported(at.path(), name, &["storage"]));
    }
    fits
}

/// An amount that may be zero.
pub fn basic(at: &At<'_>, errors: &mut ErrorList) -> bool {
    let value = at.quantity().unwrap_or_default().value();
    if value < 0 {
        errors.push(at.invalid_as(value, "must be a valid resource quantity"));
    }
    value >= 0
}
