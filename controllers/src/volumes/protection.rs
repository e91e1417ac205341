//! Keeping claims that pods use, and volumes that claims use, from being deleted under them.

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use knarr_client::{Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer, error::is_not_found};
use kube::api::{ListParams, PostParams};

use super::volume_phase;
use crate::{
    Context,
    error::{Error, Step},
    pods,
};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const WORKERS: usize = 1;
const BY_CLAIM: &str = "claim";

/// What is to be done about an object's finalizer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Add,
    Remove,
    Leave,
}

pub(super) fn judge(meta: &kube::api::ObjectMeta, finalizer: &str) -> Verdict {
    let has = meta.finalizers.iter().flatten().any(|other| other == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => Verdict::Add,
        (true, true) => Verdict::Remove,
        _ => Verdict::Leave,
    }
}

pub(super) fn change(meta: &mut kube::api::ObjectMeta, finalizer: &str, verdict: &Verdict) {
    let finalizers = meta.finalizers.get_or_insert_default();
    finalizers.retain(|other| other != finalizer);
    if *verdict == Verdict::Add {
        finalizers.push(finalizer.to_owned());
    }
}

/// The names of the claims a pod uses, those made for its ephemeral volumes included.
fn claims_of(pod: &Pod) -> Vec<String> {
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

pub(crate) fn build_claims(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("pvcprotection");
    let (claims, pods) = (wiring.root::<PersistentVolumeClaim>(), wiring.cache::<Pod>());
    pods.add_index(BY_CLAIM, |pod| {
        claims_of(pod).into_iter().map(|claim| format!("{}/{claim}", pod.namespace())).collect()
    });
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
        let verdict = judge(&claim.metadata, CLAIM_FINALIZER);
        if verdict == Verdict::Leave || (verdict == Verdict::Remove && self.is_used(key).await?) {
            return Ok(Action::Done);
        }
        let mut updated = (*claim).clone();
        change(&mut updated.metadata, CLAIM_FINALIZER, &verdict);
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        match api.replace(&key.name, &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("update claim", &key.name)?),
        }
        Ok(Action::Done)
    }
}

impl Claims {
    /// The cache may not have a pod that was just created: before a claim goes the server is asked.
    async fn is_used(&self, key: &ObjectKey) -> Result<bool, Error> {
        if self.pods.by_index(BY_CLAIM, &key.to_string()).iter().any(|pod| uses(pod, &key.name)) {
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
        let verdict = judge(&volume.metadata, VOLUME_FINALIZER);
        if verdict == Verdict::Leave || (verdict == Verdict::Remove && volume_phase(&volume) == "Bound") {
            return Ok(Action::Done);
        }
        let mut updated = (*volume).clone();
        change(&mut updated.metadata, VOLUME_FINALIZER, &verdict);
        let api = Api::<PersistentVolume>::all(self.client.clone());
        match api.replace(&key.name, &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("update volume", &key.name)?),
        }
        Ok(Action::Done)
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
