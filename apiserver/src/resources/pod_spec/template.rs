//! Pod templates.

use knarr_api::field::ErrorList;
use knarr_api::names;
use serde_json::Value;

use super::annotations;
use super::validate::{Owner, validate as validate_spec};
use crate::resources::at::At;

/// Everything wrong with a template. Upstream leaves `metadata` out of the paths of labels and annotations.
pub fn validate(template: &At<'_>, errors: &mut ErrorList) {
    let metadata = template.get("metadata");
    let of = |field: &'static str| {
        let value = metadata.and_then(|metadata| metadata.get(field));
        At::new(value, template.path().child(field))
    };
    let (labels, notes, spec) = (of("labels"), of("annotations"), template.at("spec"));
    if let Some(entries) = labels.value().and_then(Value::as_object) {
        errors.extend(names::validate_labels(entries, labels.path()));
    }
    if let Some(entries) = notes.value().and_then(Value::as_object) {
        errors.extend(names::validate_annotations(entries, notes.path()));
    }
    annotations::validate(&notes, &spec, errors);
    validate_spec(&spec, &Owner::Template, errors);
    annotations::validate_on_create(&notes, &spec, errors);
    if spec.filled("ephemeralContainers") {
        let at = spec.at("ephemeralContainers");
        errors.push(at.forbidden("ephemeral containers not allowed in pod template"));
    }
}
