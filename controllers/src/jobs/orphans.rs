//! Pods that carry the finalizer of Jobs and that no Job will count: their Job is gone or over, or they have been
//! taken from it. Nobody else would ever let them go.

use futures::future::BoxFuture;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use knarr_client::{
    Action, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, error::is_conflict,
    object::controller_of,
};
use kube::Resource;

use super::{
    finalizer::{self, has_finalizer},
    sync::is_managed_elsewhere,
};
use crate::{
    Context,
    error::Error,
    pods::{self, follow::owner_among},
};

pub(super) fn build(context: &Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("job_orphan_pod");
    let (jobs, pods) = (wiring.cache::<Job>(), wiring.cache::<Pod>());
    pods::index::by_controller(&pods);
    let known = jobs.clone();
    wiring.on(&pods, move |change| {
        let pod = change.object();
        let orphan = !matches!(change, Change::Deleted { .. }) && has_finalizer(pod) && !is_held(&known, pod);
        orphan.then(|| ObjectKey::of(&**pod))
    });
    let children = pods.clone();
    wiring.on(&jobs, move |change| {
        let job = change.object();
        let over = matches!(change, Change::Deleted { .. }) || super::is_finished(job);
        let left = if over { pods::index::owned_by(&children, job.uid()) } else { Vec::new() };
        left.into_iter().filter(|pod| has_finalizer(pod)).map(|pod| ObjectKey::of(&*pod)).collect::<Vec<_>>()
    });
    wiring.run(1, Orphans { jobs, pods, client: context.client.clone() })
}

/// Whether somebody else than us is to decide about the pod's finalizer: a Job that still counts, or an owner of
/// another kind.
fn is_held(jobs: &SharedInformer<Job>, pod: &Pod) -> bool {
    let Some(reference) = controller_of(&pod.metadata) else { return false };
    if reference.kind != Job::kind(&()) || reference.api_version != Job::api_version(&()) {
        return true;
    }
    owner_among(jobs, pod).is_some_and(|job| is_managed_elsewhere(&job) || !super::is_finished(&job))
}

struct Orphans {
    jobs: SharedInformer<Job>,
    pods: SharedInformer<Pod>,
    client: Client,
}

impl Reconcile for Orphans {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Action::Done) };
        if has_finalizer(&pod) && !is_held(&self.jobs, &pod) {
            match finalizer::remove_unchanged(&self.client, &pod).await {
                // It has changed, and the change brings it here again if it is still an orphan.
                Err(error) if error.answer().is_some_and(is_conflict) => {}
                other => other?,
            }
        }
        Ok(Action::Done)
    }
}
