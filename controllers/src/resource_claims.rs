//! ResourceClaims: those that pods want made from templates, who has reserved one, and giving up what nobody uses.
//!
//! [`generated`] makes the claims of a pod, [`reservations`] sees to a claim whose users come and go.

mod generated;
mod reservations;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::api::{
    core::v1::{Pod, PodResourceClaim},
    resource::v1::{ResourceClaim, ResourceClaimTemplate},
};
use knarr_client::{
    Action, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, events::EventRecorder,
    object::controller_of,
};

use crate::{Context, error::Error, pods};

const COMPONENT: &str = "resource_claim";
const WORKERS: usize = 10;
/// The pods that use a claim, by its key.
const BY_CLAIM: &str = "resource-claim";
/// The pods that want a claim made, by the key of the template.
const BY_TEMPLATE: &str = "resource-claim-template";
/// Which of its pod's claims a generated claim is.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pod(ObjectKey),
    Claim(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::Claim(key) => write!(f, "claim {key}"),
        }
    }
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("resource_claim");
    let (pods, claims) = (wiring.cache::<Pod>(), wiring.cache::<ResourceClaim>());
    let templates = wiring.cache::<ResourceClaimTemplate>();
    pods.add_index(BY_CLAIM, |pod| {
        let names = asked(pod).iter().filter_map(|asked| named(pod, asked));
        names.map(|name| format!("{}/{name}", pod.namespace())).collect()
    });
    pods.add_index(BY_TEMPLATE, |pod| {
        let templates = asked(pod).iter().filter_map(|asked| asked.resource_claim_template_name.as_ref());
        templates.map(|name| format!("{}/{name}", pod.namespace())).collect()
    });
    wiring.on(&pods, concerned_by_pod);
    let known = pods.clone();
    wiring.on(&claims, move |change| {
        let key = ObjectKey::of(&**change.object());
        let users = known.by_index(BY_CLAIM, &key.to_string());
        // One that is gone may have to be made again, and one that was allocated reserved.
        let users = users.into_iter().map(|pod| Key::Pod(ObjectKey::of(&*pod)));
        [Key::Claim(key)].into_iter().chain(users).collect::<Vec<_>>()
    });
    let known = pods.clone();
    wiring.on(&templates, move |change| {
        let waiting = match change {
            Change::Added(template) => known.by_index(BY_TEMPLATE, &ObjectKey::of(&***template).to_string()),
            Change::Updated { .. } | Change::Deleted { .. } => Vec::new(),
        };
        waiting.into_iter().map(|pod| Key::Pod(ObjectKey::of(&*pod)))
    });
    let recorder = context.recorder(COMPONENT);
    wiring.run(WORKERS, Sync { pods, claims, templates, recorder, client: context.client })
}

struct Sync {
    pods: SharedInformer<Pod>,
    claims: SharedInformer<ResourceClaim>,
    templates: SharedInformer<ResourceClaimTemplate>,
    recorder: EventRecorder,
    client: Client,
}

/// The claims a pod asks for.
fn asked(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// The name of the claim for one of them; `None` if it is still to be made, or none is needed.
fn named<'a>(pod: &'a Pod, asked: &'a PodResourceClaim) -> Option<&'a str> {
    if let Some(name) = asked.resource_claim_name.as_deref() {
        return Some(name);
    }
    let statuses = pod.status.as_ref()?.resource_claim_statuses.as_deref()?;
    statuses.iter().find(|status| status.name == asked.name)?.resource_claim_name.as_deref()
}

/// Whether it was decided that none is needed.
fn is_settled(pod: &Pod, asked: &PodResourceClaim) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    statuses.unwrap_or_default().iter().any(|status| status.name == asked.name)
}

/// Whether a pod will not run, or not again.
fn is_done(pod: &Pod) -> bool {
    pods::is_finished(pod) || (pod.metadata.deletion_timestamp.is_some() && pods::node_name(pod).is_empty())
}

/// Whether a claim was made for this pod.
fn is_made_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    controller_of(&claim.metadata).is_some_and(|owner| owner.uid == pod.uid())
}

fn concerned_by_pod(change: &Change<'_, Pod>) -> Vec<Key> {
    let pod: &Arc<Pod> = change.object();
    if asked(pod).is_empty() {
        return Vec::new();
    }
    let gone = matches!(change, Change::Deleted { .. });
    if !gone && !is_done(pod) {
        return vec![Key::Pod(ObjectKey::of(&**pod))];
    }
    let names = asked(pod).iter().filter_map(|asked| named(pod, asked));
    names.map(|name| Key::Claim(ObjectKey::new(pod.namespace(), name))).collect()
}

impl Reconcile for Sync {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        match key {
            Key::Pod(key) => match self.pods.get_key(key) {
                Some(pod) if pod.metadata.deletion_timestamp.is_none() => self.see_to_pod(&pod).await?,
                _ => {}
            },
            Key::Claim(key) => {
                if let Some(claim) = self.claims.get_key(key) {
                    self.see_to_claim(&claim).await?;
                }
            }
        }
        Ok(Action::Done)
    }
}
