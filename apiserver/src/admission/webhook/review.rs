//! The AdmissionReview that a hook is asked and answers with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::call::Failed;
use crate::admission::Attributes;
use crate::admission::pod::{items, text};

/// What a hook decided.
pub struct Verdict {
    pub refusal: Option<Box<Status>>,
    /// A JSON patch.
    pub patch: Option<Value>,
    pub warnings: Vec<String>,
    pub audit: Vec<(String, String)>,
}

/// The uid and body of the question, with the objects in the version that the hook's rules name.
pub fn request(attributes: &Attributes, version: &str) -> (String, Value) {
    let (kind, resource) = (&attributes.kind, &attributes.resource);
    let kind_of = |version: &str| json!({"group": kind.group, "version": version, "kind": kind.kind});
    let resource_of =
        |version: &str| json!({"group": resource.group, "version": version, "resource": resource.resource});
    let kind_version = if kind.version == resource.version { version } else { &kind.version };
    let uid = crate::authn::service_account::random_uuid();
    let mut user = json!({"username": attributes.user.name, "groups": attributes.user.groups});
    if !attributes.user.uid.is_empty() {
        user["uid"] = attributes.user.uid.as_str().into();
    }
    if !attributes.user.extra.is_empty() {
        user["extra"] = json!(attributes.user.extra);
    }
    let mut request = json!({
        "uid": uid,
        "kind": kind_of(kind_version),
        "resource": resource_of(version),
        "requestKind": kind_of(&kind.version),
        "requestResource": resource_of(&resource.version),
        "operation": attributes.operation.as_str(),
        "userInfo": user,
        "object": attributes.object,
        "oldObject": attributes.old_object.as_deref(),
        "dryRun": attributes.dry_run,
        "options": attributes.options,
    });
    for (field, value) in [
        ("name", &attributes.name),
        ("namespace", &attributes.namespace),
        ("subResource", &attributes.subresource),
        ("requestSubResource", &attributes.subresource),
    ] {
        if !value.is_empty() {
            request[field] = value.as_str().into();
        }
    }
    let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request});
    (uid, review)
}

/// Reads the answer. Anything but a complete and consistent one is a failure of the hook.
pub fn verdict(uid: &str, mut review: Value) -> Result<Verdict, Failed> {
    let invalid = |why: String| Failed(format!("received invalid webhook response: {why}"));
    if review["apiVersion"] != "admission.k8s.io/v1" || review["kind"] != "AdmissionReview" {
        return Err(invalid(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
            text(&review["apiVersion"]),
            text(&review["kind"])
        )));
    }
    let mut response = review["response"].take();
    if !response.is_object() {
        return Err(invalid("webhook response was absent".into()));
    }
    if response["uid"] != uid {
        let got = text(&response["uid"]);
        return Err(invalid(format!("expected response.uid={uid:?}, got {got:?}")));
    }
    let patch = match response["patch"].as_str().filter(|patch| !patch.is_empty()) {
        None => None,
        Some(_) if response["patchType"] != "JSONPatch" => {
            let got = text(&response["patchType"]);
            return Err(invalid(format!(
                "webhook returned response.patchType={got:?}, expected \"JSONPatch\""
            )));
        }
        Some(patch) => {
            let bytes = STANDARD.decode(patch).map_err(|error| invalid(error.to_string()))?;
            Some(serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?)
        }
    };
    let refusal = match response["allowed"].as_bool() {
        Some(true) => None,
        _ => {
            let status = response["status"].take();
            let status = if status.is_object() { status } else { json!({}) };
            let status = serde_json::from_value(status).map_err(|error| invalid(error.to_string()))?;
            Some(Box::new(status))
        }
    };
    let audit = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Verdict {
        refusal,
        patch,
        warnings: items(&response["warnings"]).map(|warning| text(warning).to_owned()).collect(),
        audit: audit.map(|(key, value)| (key.clone(), text(value).to_owned())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Result<Verdict, Failed> {
        verdict(
            "u",
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}),
        )
    }

    #[test]
    fn only_complete_answers_count() {
        assert!(answer(json!({"uid": "u", "allowed": true})).is_ok_and(|v| v.refusal.is_none()));
        let refused =
            answer(json!({"uid": "u", "allowed": false, "status": {"message": "no"}})).ok().unwrap();
        assert_eq!(refused.refusal.unwrap().message, "no");
        assert!(answer(json!({"uid": "u"})).is_ok_and(|v| v.refusal.is_some()), "silence is refusal");
        for bad in [
            json!(null),
            json!({"uid": "x", "allowed": true}),
            json!({"uid": "u", "allowed": true, "patch": "W10="}),
        ] {
            assert!(answer(bad.clone()).is_err(), "{bad}");
        }
    }
}
