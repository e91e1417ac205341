//! Signing the requests that were approved.

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::{Action, Api, Client, ObjectKey, Reconcile, SharedInformer};
use kube::api::PostParams;
use tracing::error;

use super::{QUEUE, WORKERS, authority::Authority, condition, is_issued, request::Request, signers};
use crate::{
    Context,
    error::{Error, Step},
};

/// Does nothing if there is no authority to sign with.
pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let Some(from) = &context.config.signing else { return futures::future::ready(()).boxed() };
    let authority = match Authority::load(from) {
        Ok(authority) => authority,
        Err(error) => {
            error!(%error, "certificate signing requests are not signed");
            return futures::future::ready(()).boxed();
        }
    };
    let mut wiring = context.wire_with(QUEUE, super::retries());
    let requests = wiring.root::<CertificateSigningRequest>();
    let sync =
        Sync { requests, authority, client: context.client, clock: context.clock, random: context.random };
    wiring.run(WORKERS, sync)
}

struct Sync {
    requests: SharedInformer<CertificateSigningRequest>,
    authority: Authority,
    client: Client,
    clock: SharedClock,
    random: SharedRandom,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(asked) = self.requests.get_key(key) else { return Ok(Action::Done) };
        let holds = |kind: &str| condition(&asked, kind).is_some_and(|condition| condition.status == "True");
        let approved = condition(&asked, "Approved").is_some() && condition(&asked, "Denied").is_none();
        if !approved || holds("Failed") || is_issued(&asked) || !signers::is_ours(&asked.spec.signer_name) {
            return Ok(Action::Done);
        }
        let request = Request::parse(&asked.spec.request.0)
            .map_err(|error| Error::Unusable(format!("unable to parse csr {:?}: {error}", &*key.name)))?;
        let usages = asked.spec.usages.as_deref().unwrap_or_default();
        let mut answered = (*asked).clone();
        let status = answered.status.get_or_insert_default();
        match signers::refusal(&asked.spec.signer_name, &request, usages) {
            Some(refusal) => {
                let now = Time(self.clock.now());
                status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                    type_: "Failed".to_owned(),
                    status: "True".to_owned(),
                    reason: Some("SignerValidationFailure".to_owned()),
                    message: Some(refusal),
                    last_update_time: Some(now.clone()),
                    last_transition_time: Some(now),
                });
            }
            None => {
                // Positive, and as long as it can be.
                let serial =
                    (u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64())) >> 1;
                let signed = self
                    .authority
                    .sign(&request, usages, asked.spec.expiration_seconds, serial.max(1), self.clock.now())
                    .map_err(|error| Error::Unusable(format!("error auto signing csr: {error}")))?;
                status.certificate = Some(ByteString(signed.into_bytes()));
            }
        }
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        let written = api.replace_status(&key.name, &PostParams::default(), &answered).await;
        written.map(|_| Action::Done).step("sign", &key.name)
    }
}
