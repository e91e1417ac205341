//! CertificateSigningRequests: who asked is the server's to say, and approval is a subresource of its own.

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use crate::object;
use crate::registry::{Context, Strategy, UpdateStrategy};

pub struct SigningRequest;

impl Strategy for SigningRequest {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        if spec.get("usages").is_none_or(Value::is_null) {
            spec["usages"] = json!(["digital signature", "key encipherment"]);
        }
    }

    fn prepare_for_create(&self, cx: &Context<'_>, object: &mut Value) {
        let user = cx.user;
        let asked_by = [
            ("username", json!(user.name)),
            ("uid", json!(user.uid)),
            ("groups", json!(user.groups)),
            ("extra", json!(user.extra)),
        ];
        if let Some(spec) = object::map_at(object, "spec").as_object_mut() {
            for (field, value) in asked_by {
                // Whatever the creator wrote there goes, even where there is nothing to put.
                spec.remove(field);
                if value != "" && value != json!([]) && value != json!({}) {
                    spec.insert(field.to_owned(), value);
                }
            }
        }
        object["status"] = json!({});
    }

    fn prepare_for_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        object::copy_field(object, old, "spec");
    }

    fn validate_update(&self, _: &Context<'_>, _: &Value, _: &Value) -> ErrorList {
        // The spec is the old one's, which was valid.
        ErrorList::new()
    }

    fn prepare_for_status_update(&self, _: &Context<'_>, object: &mut Value, old: &Value) {
        let mut conditions: Vec<Value> = conditions(object).filter(|c| !is_verdict(c)).cloned().collect();
        conditions.splice(0..0, self::conditions(old).filter(|c| is_verdict(c)).cloned());
        object::map_at(object, "status")["conditions"] = conditions.into();
    }

    fn subresource(&self, name: &str) -> Option<&dyn UpdateStrategy> {
        (name == "approval").then_some(&Approval)
    }
}

fn conditions(request: &Value) -> impl Iterator<Item = &Value> {
    request.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

fn is_verdict(condition: &Value) -> bool {
    matches!(condition["type"].as_str(), Some("Approved" | "Denied"))
}

/// Writes the conditions and nothing else.
struct Approval;

impl UpdateStrategy for Approval {
    fn prepare_for_update(&self, cx: &Context<'_>, object: &mut Value, old: &Value) {
        let now = object::timestamp(cx.now);
        let mut given: Vec<Value> = conditions(object).cloned().collect();
        for condition in &mut given {
            for field in ["lastUpdateTime", "lastTransitionTime"] {
                if condition.get(field).is_none_or(Value::is_null) {
                    condition[field] = now.as_str().into();
                }
            }
        }
        object::copy_field(object, old, "spec");
        object::copy_field(object, old, "status");
        object::map_at(object, "status")["conditions"] = given.into();
    }

    fn validate_update(&self, _: &Context<'_>, _: &Value, _: &Value) -> ErrorList {
        ErrorList::new()
    }
}
