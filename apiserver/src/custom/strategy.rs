//! The strategy of a custom resource: its schema decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use knarr_api::field::ErrorList;
use serde_json::Value;

use super::schema::CustomSchema;
use crate::object;
use crate::registry::{Context, Strategy};

pub struct CustomStrategy {
    /// By `apiVersion`.
    pub schemas: BTreeMap<String, Arc<CustomSchema>>,
}

impl CustomStrategy {
    fn check(&self, cx: &Context<'_>, object: &Value, old: Option<&Value>) -> ErrorList {
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let Some(schema) = self.schemas.get(version) else { return ErrorList::new() };
        schema.validate(object, old, &|warning| cx.warn(warning))
    }
}

impl Strategy for CustomStrategy {
    fn set_defaults(&self, object: &mut Value) {
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if let Some(schema) = self.schemas.get(version) {
            schema.complete(object);
        }
    }

    fn validate(&self, cx: &Context<'_>, object: &Value) -> ErrorList {
        self.check(cx, object, None)
    }

    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        self.check(cx, object, Some(old))
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        // Only the managed fields tell of who wrote the status.
        let mut metadata = old.get("metadata").cloned().unwrap_or_default();
        for field in ["managedFields", "resourceVersion"] {
            if let Some(value) = object::metadata(object).and_then(|known| known.get(field)) {
                metadata[field] = value.clone();
            }
        }
        object["metadata"] = metadata;
    }

    fn validate_status_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        self.check(cx, object, Some(old))
    }
}
