//! Certificates.

use super::super::{Cell, human_duration};
use super::View;

pub(super) fn signing_request(object: View<'_>) -> Vec<Cell<'_>> {
    let has = |kind| object.condition("status.conditions", kind).is_some();
    let mut condition = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if has("Failed") {
        condition.push_str(",Failed");
    }
    if !object.str("status.certificate").is_empty() {
        condition.push_str(",Issued");
    }
    let duration = object.at("spec.expirationSeconds").value().as_i64();
    vec![
        object.name(),
        object.age(),
        object.str_or("spec.signerName", "<none>").into(),
        object.str("spec.username").into(),
        duration.map_or("<none>".into(), |seconds| human_duration(seconds).into()),
        condition.into(),
    ]
}

pub(super) fn trust_bundle(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str_or("spec.signerName", "<none>").into()]
}

pub(super) fn pod_request(object: View<'_>) -> Vec<Cell<'_>> {
    let kinds = object.items("status.conditions").map(|condition| condition.str("type"));
    let state = kinds.rev().find(|kind| matches!(*kind, "Issued" | "Denied" | "Failed")).unwrap_or("Pending");
    let annotations = object.fields("spec.unverifiedUserAnnotations").into_iter().flatten();
    let annotations = annotations.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    vec![
        object.name(),
        object.str("spec.podName").into(),
        object.str("spec.serviceAccountName").into(),
        object.str("spec.nodeName").into(),
        object.str("spec.signerName").into(),
        state.into(),
        super::super::view::or_none(super::super::view::join(annotations, ",")).into(),
    ]
}
