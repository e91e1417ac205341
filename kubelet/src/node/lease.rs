//! The node's Lease: renewed at a quarter of its duration, so that a few lost renewals are no lost node.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use knarr_api::time::SharedClock;
use knarr_client::Api;
use kube::api::PostParams;

const NAMESPACE: &str = "kube-node-lease";
const RENEW_FRACTION: f64 = 0.25;
/// Attempts in a row before waiting for the next round.
const ATTEMPTS: usize = 5;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(7);

pub struct Renewer {
    pub client: kube::Client,
    pub clock: SharedClock,
    pub node_name: String,
    pub node_uid: String,
    pub duration_seconds: i32,
}

impl Renewer {
    /// Renews for ever.
    pub async fn run(self) {
        let seconds = f64::from(self.duration_seconds) * RENEW_FRACTION;
        let interval = Duration::from_secs_f64(seconds.max(0.1));
        let mut last: Option<Lease> = None;
        let mut delay = FIRST_RETRY;
        loop {
            last = self.renew(last).await;
            let wait = if last.is_some() {
                delay = FIRST_RETRY;
                interval
            } else {
                delay = (delay * 2).min(LAST_RETRY);
                delay
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One renewal; `None` when it could not be made.
    async fn renew(&self, mut last: Option<Lease>) -> Option<Lease> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        for _ in 0..ATTEMPTS {
            let outcome = match &last {
                Some(lease) => api.replace(&self.node_name, &PostParams::default(), &self.next(lease)).await,
                None => self.find_or_create(&api).await,
            };
            match outcome {
                Ok(lease) => return Some(lease),
                // Somebody else wrote it, or it is gone: look again.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => last = None,
                Err(error) => {
                    tracing::warn!(node = self.node_name, %error, "failed to update lease");
                    return last.filter(|_| false);
                }
            }
        }
        None
    }

    async fn find_or_create(&self, api: &Api<Lease>) -> kube::Result<Lease> {
        match api.get_opt(&self.node_name).await? {
            Some(lease) => api.replace(&self.node_name, &PostParams::default(), &self.next(&lease)).await,
            None => api.create(&PostParams::default(), &self.next(&Lease::default())).await,
        }
    }

    fn next(&self, lease: &Lease) -> Lease {
        let mut next = lease.clone();
        next.metadata = ObjectMeta {
            name: Some(self.node_name.clone()),
            namespace: Some(NAMESPACE.to_owned()),
            ..next.metadata
        };
        if next.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
            next.metadata.owner_references = Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: self.node_name.clone(),
                uid: self.node_uid.clone(),
                ..OwnerReference::default()
            }]);
        }
        let spec = next.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(self.node_name.clone());
        spec.lease_duration_seconds = Some(self.duration_seconds);
        spec.renew_time = Some(MicroTime(self.clock.now()));
        next
    }
}
