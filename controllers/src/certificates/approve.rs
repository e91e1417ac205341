//! Approving the client certificates that kubelets ask for, if the asker may have them.

use futures::future::BoxFuture;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    certificates::v1::CertificateSigningRequest,
};
use knarr_api::time::SharedClock;
use knarr_client::{Action, Api, Client, ObjectKey, Reconcile, SharedInformer};
use kube::api::PostParams;

use super::{QUEUE, WORKERS, approval, request::Request, signers};
use crate::{
    Context,
    error::{Error, Step},
};

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire_with(QUEUE, super::retries());
    let requests = wiring.root::<CertificateSigningRequest>();
    wiring.run(WORKERS, Sync { requests, client: context.client, clock: context.clock })
}

struct Sync {
    requests: SharedInformer<CertificateSigningRequest>,
    client: Client,
    clock: SharedClock,
}

/// The permissions that would let a request be approved, and what its approval says.
fn recognize(asked: &CertificateSigningRequest, request: &Request) -> Vec<(&'static str, &'static str)> {
    let is_node = asked.spec.signer_name == signers::KUBELET_CLIENT
        && signers::kubelet_client(request, asked.spec.usages.as_deref().unwrap_or_default()).is_none();
    let mut found = Vec::new();
    if is_node && asked.spec.username.as_deref() == Some(request.common_name.as_str()) {
        found.push((
            "selfnodeclient",
            "Auto approving self kubelet client certificate after SubjectAccessReview.",
        ));
    }
    if is_node {
        found.push(("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."));
    }
    found
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(asked) = self.requests.get_key(key) else { return Ok(Action::Done) };
        if !approval::is_open(&asked) {
            return Ok(Action::Done);
        }
        let request = Request::parse(&asked.spec.request.0)
            .map_err(|error| Error::Unusable(format!("unable to parse csr {:?}: {error}", &*key.name)))?;
        let recognized = recognize(&asked, &request);
        for (permission, message) in &recognized {
            if self.may(&asked, permission).await? {
                approval::approve(&self.client, &self.clock, &asked, message).await?;
                return Ok(Action::Done);
            }
        }
        // Who may not now may be allowed later, and nothing would tell us.
        Ok(if recognized.is_empty() { Action::Done } else { Action::Retry })
    }
}

impl Sync {
    /// Whether the asker may have the permission, which is a made-up subresource.
    async fn may(&self, asked: &CertificateSigningRequest, permission: &str) -> Result<bool, Error> {
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".to_owned()),
            resource: Some("certificatesigningrequests".to_owned()),
            subresource: Some(permission.to_owned()),
            verb: Some("create".to_owned()),
            version: Some("*".to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: asked.spec.username.clone(),
                uid: asked.spec.uid.clone(),
                groups: asked.spec.groups.clone(),
                extra: asked.spec.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let name = asked.metadata.name.as_deref().unwrap_or_default();
        let answer = api.create(&PostParams::default(), &review).await.step("review access for", name)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}
