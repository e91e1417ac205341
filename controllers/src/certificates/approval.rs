//! Writing that a request is approved: what the approvers have in common.

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_api::time::SharedClock;
use knarr_client::{Api, Client};
use kube::api::PostParams;

use super::{condition, is_issued};
use crate::error::{Error, Step};

/// Whether nobody has decided about the request yet.
pub(super) fn is_open(asked: &CertificateSigningRequest) -> bool {
    let decided = ["Approved", "Denied"].into_iter().any(|kind| condition(asked, kind).is_some());
    !decided && !is_issued(asked)
}

pub(super) async fn approve(
    client: &Client,
    clock: &SharedClock,
    asked: &CertificateSigningRequest,
    message: &str,
) -> Result<(), Error> {
    let (mut approved, now) = (asked.clone(), Time(clock.now()));
    let conditions = approved.status.get_or_insert_default().conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    });
    let name = asked.metadata.name.as_deref().unwrap_or_default();
    let api = Api::<CertificateSigningRequest>::all(client.clone());
    let written = api.replace_subresource("approval", name, &PostParams::default(), &approved).await;
    written.map(drop).step("approve", name)
}
