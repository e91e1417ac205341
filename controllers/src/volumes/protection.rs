//! Keeping claims that pods use, and volumes that claims use, from being deleted under them.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use knarr_client::{Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer};
use kube::api::ListParams;

use super::{guard::Guard, volume_phase};
use crate::{
    Context,
    error::{Error, Step},
    pods,
};

const CLAIMS: Guard = Guard { finalizer: "kubernetes.io/pvc-protection", update: "update claim" };
const VOLUMES: Guard = Guard { finalizer: "kubernetes.io/pv-protection", update: "update volume" };
const WORKERS: usize = 1;
const BY_CLAIM: &str = "claim";

/// The names of the claims a pod uses, those made for its ephemeral volumes included.
pub(super) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let name = |volume: &k8s_openapi::api::core::v1::Volume| match (
        &volume.persistent_volume_claim,
        &volume.ephemeral,
    ) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name(), volume.name)),
        (None, None) => None,
    };
    volumes.iter().filter_map(name).collect()
}

/// Whether a pod may still touch its volumes.
fn uses(pod: &Pod, claim: &str) -> bool {
    !pods::is_finished(pod) && claims_of(pod).iter().any(|name| name == claim)
}

/// Puts an index of their claims over the pods.
pub(super) fn by_claim(pods: &SharedInformer<Pod>) {
    pods.add_index(BY_CLAIM, |pod| {
        claims_of(pod).into_iter().map(|claim| format!("{}/{claim}", pod.namespace())).collect()
    });
}

/// The pods that name a claim.
pub(super) fn users_of(pods: &SharedInformer<Pod>, claim: &ObjectKey) -> Vec<Arc<Pod>> {
    pods.by_index(BY_CLAIM, &claim.to_string())
}

pub(crate) fn build_claims(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("pvcprotection");
    let (claims, pods) = (wiring.root::<PersistentVolumeClaim>(), wiring.cache::<Pod>());
    by_claim(&pods);
    wiring.on(&pods, |change| {
        let pod = Arc::clone(change.object());
        claims_of(&pod).into_iter().map(move |claim| ObjectKey::new(pod.namespace(), claim))
    });
    wiring.run(WORKERS, Claims { claims, pods, client: context.client })
}

struct Claims {
    claims: SharedInformer<PersistentVolumeClaim>,
    pods: SharedInformer<Pod>,
    client: Client,
}

impl Reconcile for Claims {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(Action::Done) };
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        CLAIMS.keep(&api, &*claim, self.is_used(key)).await
    }
}

impl Claims {
    /// The cache may not have a pod that was just created: before a claim goes the server is asked.
    async fn is_used(&self, key: &ObjectKey) -> Result<bool, Error> {
        if users_of(&self.pods, key).iter().any(|pod| uses(pod, &key.name)) {
            return Ok(true);
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let all = api.list(&ListParams::default()).await.step("list pods in", &key.namespace)?;
        Ok(all.iter().any(|pod| uses(pod, &key.name)))
    }
}

pub(crate) fn build_volumes(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("pvprotection");
    let volumes = wiring.root::<PersistentVolume>();
    wiring.run(WORKERS, Volumes { volumes, client: context.client })
}

struct Volumes {
    volumes: SharedInformer<PersistentVolume>,
    client: Client,
}

impl Reconcile for Volumes {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(volume) = self.volumes.get_key(key) else { return Ok(Action::Done) };
        let api = Api::<PersistentVolume>::all(self.client.clone());
        VOLUMES.keep(&api, &*volume, async { Ok(volume_phase(&volume) == "Bound") }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};

    #[test]
    fn a_running_pod_keeps_its_claim() {
        let mut user = pod("a", "n", "Running", None);
        let source =
            PersistentVolumeClaimVolumeSource { claim_name: "data".to_owned(), ..Default::default() };
        let volume = Volume { persistent_volume_claim: Some(source), ..Volume::default() };
        user.spec.as_mut().unwrap().volumes = Some(vec![volume]);
        assert!(uses(&user, "data") && !uses(&user, "other"));
        user.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        assert!(!uses(&user, "data"));
    }
}
