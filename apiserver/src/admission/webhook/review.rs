//! The AdmissionReview that a hook is asked and answers with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::call::Failed;
use super::configuration::ReviewVersion;
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

/// What a hook is asked, as its answer is held against it.
pub struct Question {
    pub version: ReviewVersion,
    pub uid: String,
    /// Only then may the answer change the object.
    pub mutating: bool,
}

impl Question {
    pub fn new(version: ReviewVersion, mutating: bool) -> Self {
        Self { version, uid: crate::authn::service_account::random_uuid(), mutating }
    }
}

/// The body of the question, with the objects in the version that the hook's rules name.
pub fn request(question: &Question, attributes: &Attributes, version: &str) -> Value {
    let (kind, resource) = (&attributes.kind, &attributes.resource);
    let kind_of = |version: &str| json!({"group": kind.group, "version": version, "kind": kind.kind});
    let resource_of =
        |version: &str| json!({"group": resource.group, "version": version, "resource": resource.resource});
    let kind_version = if kind.version == resource.version { version } else { &kind.version };
    let mut user = json!({"username": attributes.user.name, "groups": attributes.user.groups});
    if !attributes.user.uid.is_empty() {
        user["uid"] = attributes.user.uid.as_str().into();
    }
    if !attributes.user.extra.is_empty() {
        user["extra"] = json!(attributes.user.extra);
    }
    let mut request = json!({
        "uid": question.uid,
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
    json!({"kind": "AdmissionReview", "apiVersion": question.version.api_version(), "request": request})
}

/// Reads the answer. Anything but a complete and consistent one is a failure of the hook; in v1beta1 neither the kind
/// nor the uid nor the type of the patch was ever looked at.
pub fn verdict(question: &Question, mut review: Value) -> Result<Verdict, Failed> {
    let invalid = |why: String| Failed(format!("received invalid webhook response: {why}"));
    let mut response = review["response"].take();
    if !response.is_object() {
        return Err(invalid("webhook response was absent".into()));
    }
    if question.version == ReviewVersion::V1 {
        check_identity(question, &review, &response).map_err(invalid)?;
        check_patch_type(question.mutating, &response).map_err(invalid)?;
    }
    let patch = match response["patch"].as_str().filter(|patch| question.mutating && !patch.is_empty()) {
        None => None,
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

fn check_identity(question: &Question, review: &Value, response: &Value) -> Result<(), String> {
    let (wanted, got) = (&question.uid, text(&response["uid"]));
    if wanted != got {
        return Err(format!("expected response.uid={wanted:?}, got {got:?}"));
    }
    let (api_version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    let wanted = question.version.api_version();
    if api_version == wanted && kind == "AdmissionReview" {
        return Ok(());
    }
    // A version without a group is shown with an empty one.
    let group = if api_version.contains('/') { "" } else { "/" };
    Err(format!(
        "expected webhook response of {wanted}, Kind=AdmissionReview, got {group}{api_version}, Kind={kind}"
    ))
}

fn check_patch_type(mutating: bool, response: &Value) -> Result<(), String> {
    let has_patch = !text(&response["patch"]).is_empty();
    let kind = response["patchType"].as_str();
    let wrong = match (mutating, has_patch, kind) {
        (false, true, _) => "validating webhook may not return response.patch",
        (false, false, Some(_)) => "validating webhook may not return response.patchType",
        (true, true, None) => "webhook returned response.patch but not response.patchType",
        (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, true, Some("JSONPatch")) | (_, false, None) => return Ok(()),
        (true, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (true, true, Some(other)) => return Err(format!("unsupported patch type {other:?}")),
    };
    Err(wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: ReviewVersion, mutating: bool) -> Question {
        Question { version, uid: "u".to_owned(), mutating }
    }

    fn answer(response: Value) -> Result<Verdict, Failed> {
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        verdict(&asked(ReviewVersion::V1, true), review)
    }

    #[test]
    fn a_validating_hook_may_not_change_anything() {
        let question = asked(ReviewVersion::V1, false);
        for (response, why) in [
            (
                json!({"uid": "u", "allowed": true, "patch": "W10="}),
                "validating webhook may not return response.patch",
            ),
            (
                json!({"uid": "u", "allowed": true, "patchType": "JSONPatch"}),
                "validating webhook may not return response.patchType",
            ),
        ] {
            let review =
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
            let Err(Failed(told)) = verdict(&question, review) else { panic!("{response} was taken") };
            assert_eq!(told, format!("received invalid webhook response: {why}"));
        }
    }

    #[test]
    fn of_an_answer_in_v1beta1_only_the_response_is_looked_at() {
        let review = json!({"response": {"allowed": true, "patch": "W10="}});
        let taken = verdict(&asked(ReviewVersion::V1Beta1, true), review.clone()).ok().expect("taken");
        assert_eq!(taken.patch, Some(json!([])));
        let taken = verdict(&asked(ReviewVersion::V1Beta1, false), review.clone()).ok().expect("taken");
        assert_eq!(taken.patch, None);
        let Err(Failed(why)) = verdict(&asked(ReviewVersion::V1, true), review) else { panic!("no uid") };
        assert!(why.ends_with("expected response.uid=\"u\", got \"\""), "{why}");
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
