//! Namespaces: they end in two steps, when their content is gone and `spec.finalizers` is empty.

use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, DeleteStep, Strategy, UpdateStrategy};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub struct Namespace;

impl Strategy for Namespace {
    fn set_defaults(&self, object: &mut Value) {
        let name = object::name(object).to_owned();
        if !name.is_empty() {
            let labels = object::metadata_mut(object).entry("labels").or_insert_with(|| json!({}));
            if !labels.is_object() {
                *labels = json!({});
            }
            labels[NAME_LABEL] = name.into();
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        // A generated name is known only now.
        self.set_defaults(object);
        object["status"] = json!({"phase": "Active"});
        let finalizers = object::map_at(object, "spec")
            .as_object_mut()
            .map(|spec| spec.entry("finalizers").or_insert_with(|| json!([])));
        if let Some(Value::Array(list)) = finalizers
            && !list.iter().any(|name| name == FINALIZER)
        {
            list.push(FINALIZER.into());
        }
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        let kept = old.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
        object::map_at(object, "spec")["finalizers"] = kept;
    }

    fn validate_status_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        let path = Path::new("status").child("Phase");
        let deleting = object::is_deleting(object);
        match (deleting, phase) {
            (false, "Active") | (true, "Terminating") => ErrorList::new(),
            (false, _) => {
                Error::invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty").into()
            }
            (true, _) => {
                Error::invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")
                    .into()
            }
        }
    }

    fn subresource(&self, name: &str) -> Option<&dyn UpdateStrategy> {
        (name == "finalize").then_some(&Finalize)
    }

    fn prepare_for_delete(&self, cx: &Context<'_>, object: &mut Value) -> Option<DeleteStep> {
        let finalizers = spec_finalizers(object);
        if object::is_deleting(object) && object.pointer("/status/phase") == Some(&json!("Terminating")) {
            return (!finalizers.is_empty()).then_some(DeleteStep::Wait);
        }
        if finalizers.is_empty() && object::finalizers(object).is_empty() {
            return None;
        }
        if !object::is_deleting(object) {
            object::set_meta(object, "deletionTimestamp", object::timestamp(cx.now));
        }
        object::map_at(object, "status")["phase"] = "Terminating".into();
        Some(DeleteStep::Mark)
    }

    fn deletes_during_update(&self, object: &Value) -> bool {
        spec_finalizers(object).is_empty()
    }
}

fn spec_finalizers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/spec/finalizers").and_then(Value::as_array);
    list.map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// `namespaces/finalize`: the only way to change `spec.finalizers`.
struct Finalize;

impl UpdateStrategy for Finalize {
    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        object::copy_field(object, old, "status");
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, _: &Value) -> ErrorList {
        let path = Path::new("spec").child("finalizers");
        let mut errors = ErrorList::new();
        for (at, name) in spec_finalizers(object).into_iter().enumerate() {
            let path = path.index(at);
            errors.extend(names::qualified_name(name).into_iter().map(|m| Error::invalid(&path, name, m)));
            if !name.contains('/') && name != FINALIZER {
                errors.push(Error::invalid(
                    &path,
                    name,
                    "name is neither a standard finalizer name nor is it fully qualified",
                ));
            }
        }
        errors
    }
}
