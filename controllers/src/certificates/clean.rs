//! Removing requests that nobody waits for any more.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use knarr_api::time::SharedClock;
use knarr_client::{Action, Api, Client, ObjectKey, Reconcile, SharedInformer, error::is_not_found};
use kube::api::{DeleteParams, Preconditions};

use super::{condition, is_issued};
use crate::{
    Context,
    error::{Error, Step},
};

/// How long an answered request stays, and how long one that waits for an answer.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
const WAITING: SignedDuration = SignedDuration::from_hours(24);

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("certificate_cleaner");
    let requests = wiring.root::<CertificateSigningRequest>();
    wiring.run(1, Sync { requests, client: context.client, clock: context.clock })
}

struct Sync {
    requests: SharedInformer<CertificateSigningRequest>,
    client: Client,
    clock: SharedClock,
}

/// When an issued certificate ends.
fn not_after(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let certificate = request.status.as_ref()?.certificate.as_ref()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&certificate.0).ok()?;
    let end = pem.parse_x509().ok()?.validity().not_after.timestamp();
    Timestamp::from_second(end).ok()
}

/// When a request may go; `None` if never.
fn ends(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let after = |kind: &str, stay: SignedDuration| {
        condition(request, kind)?.last_update_time.as_ref()?.0.checked_add(stay).ok()
    };
    let is_new = request
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_none_or(|conditions| conditions.is_empty());
    let created = request.metadata.creation_timestamp.as_ref().filter(|_| is_new);
    let approved = condition(request, "Approved").is_some();
    [
        created.and_then(|created| created.0.checked_add(WAITING).ok()),
        after("Denied", ANSWERED),
        after("Failed", ANSWERED),
        after("Approved", if is_issued(request) { ANSWERED } else { WAITING }),
        not_after(request).filter(|_| approved),
    ]
    .into_iter()
    .flatten()
    .min()
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(request) = self.requests.get_key(key) else { return Ok(Action::Done) };
        let Some(end) = ends(&request) else { return Ok(Action::Done) };
        let left = Duration::try_from(end.duration_since(self.clock.now())).unwrap_or_default();
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        // Answered meanwhile, it has more time.
        let this_state = Preconditions {
            uid: request.metadata.uid.clone(),
            resource_version: request.metadata.resource_version.clone(),
        };
        let parameters = DeleteParams { preconditions: Some(this_state), ..DeleteParams::default() };
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        match api.delete(&key.name, &parameters).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("delete", &key.name)?),
        }
        Ok(Action::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{
        api::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus},
        apimachinery::pkg::apis::meta::v1::Time,
    };

    #[test]
    fn a_request_goes_an_hour_after_its_answer_or_a_day_without_one() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut request = CertificateSigningRequest::default();
        request.metadata.creation_timestamp = Some(Time(start));
        let hours = |request: &CertificateSigningRequest| {
            ends(request).map(|end| end.duration_since(start).as_hours())
        };
        assert_eq!(hours(&request), Some(24));
        for (kind, wanted) in [("Denied", 2), ("Failed", 2), ("Approved", 25)] {
            let condition = CertificateSigningRequestCondition {
                type_: kind.to_owned(),
                last_update_time: Some(Time(start + SignedDuration::from_hours(1))),
                ..CertificateSigningRequestCondition::default()
            };
            request.status = Some(CertificateSigningRequestStatus {
                conditions: Some(vec![condition]),
                ..CertificateSigningRequestStatus::default()
            });
            assert_eq!(hours(&request), Some(wanted), "{kind}");
        }
    }
}
