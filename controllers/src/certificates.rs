//! CertificateSigningRequests: [`approve`] the ones kubelets may have as clients, [`serving`] those as servers, [`sign`]
//! what was approved, [`clean`] what nobody waits for any more. [`trust_bundle`] says whom to trust as the API server.
//!
//! [`request`] is what a request asks, [`signers`] what each signer of ours accepts, [`authority`] the key that signs.

mod approval;
pub(crate) mod approve;
mod authority;
pub(crate) mod clean;
mod request;
pub(crate) mod serving;
pub(crate) mod sign;
mod signers;
pub(crate) mod trust_bundle;

use std::time::Duration;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use knarr_client::queue::QueueConfig;

pub use self::authority::{AuthorityError, SigningAuthority};

const WORKERS: usize = 5;
const QUEUE: &str = "certificate";

/// Retries begin slower than elsewhere: what fails here is most often waiting for somebody.
fn retries() -> QueueConfig {
    QueueConfig { base_delay: Duration::from_millis(200), ..QueueConfig::default() }
}

fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    request.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}
