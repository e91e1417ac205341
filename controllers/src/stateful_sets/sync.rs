//! One look at one StatefulSet.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet},
    core::v1::{PersistentVolumeClaim, Pod},
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_already_exists, is_not_found, message},
    events::{EventRecorder, EventType},
    ownership::{Claimer, selector},
};
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::{
    identity,
    plan::{Step, View, is_ordered},
    status,
};
use crate::{
    error::{Error, Step as _},
    pods,
    revisions::{History, Revisions},
};

pub(super) struct Sync {
    pub(super) sets: SharedInformer<StatefulSet>,
    pub(super) pods: SharedInformer<Pod>,
    pub(super) claims: SharedInformer<PersistentVolumeClaim>,
    pub(super) revisions: Revisions,
    pub(super) recorder: EventRecorder,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(set) = self.sets.get_key(key) else { return Ok(Action::Done) };
        let pods = self.claim_pods(&set).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let history = self.revisions.history(&*set, collisions).await?;
        let current = current(&set, &history);
        let outcome = if set.metadata.deletion_timestamp.is_none() {
            let now = self.clock.now();
            let view = View { set: &set, pods: &pods, current: &current, update: &history.update, now };
            self.carry_out(&set, &pods, view.plan()?).await
        } else {
            Ok(())
        };
        self.report(&set, &pods, &current, &history).await?;
        outcome?;
        let live = |revision: &ControllerRevision| {
            revision.name() == current.name()
                || pods.iter().any(|pod| identity::revision(pod) == revision.name())
        };
        self.revisions.truncate(&*set, &history, live).await?;
        Ok(self.next_look(&set, &pods))
    }
}

/// The revision that finished last, or the present one if that is not known any more.
fn current(set: &StatefulSet, history: &History) -> Arc<ControllerRevision> {
    let name = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let found = history.all.iter().find(|revision| Some(revision.name()) == name);
    Arc::clone(found.unwrap_or(&history.update))
}

impl Sync {
    async fn claim_pods(&self, set: &StatefulSet) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = selector(&set.spec.selector)?;
        let mut candidates = pods::index::owned_by(&self.pods, set.uid());
        let orphans = pods::index::orphans_in(&self.pods, set.namespace());
        candidates.extend(orphans.into_iter().filter(|pod| identity::ordinal(set, pod).is_some()));
        Ok(Claimer::new(&self.client, set, &selector).claim_all(candidates).await?)
    }

    fn api(&self, set: &StatefulSet) -> Api<Pod> {
        Api::namespaced(self.client.clone(), set.namespace())
    }

    async fn carry_out(&self, set: &StatefulSet, pods: &[Arc<Pod>], steps: Vec<Step>) -> Result<(), Error> {
        for pod in pods {
            self.settle_owners(set, pod).await?;
        }
        if is_ordered(set) {
            for step in steps {
                self.take(set, step).await?;
            }
            return Ok(());
        }
        let taken = futures::future::join_all(steps.into_iter().map(|step| self.take(set, step))).await;
        taken.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn take(&self, set: &StatefulSet, step: Step) -> Result<(), Error> {
        match step {
            Step::Claims(ordinal) => self.make_claims(set, ordinal).await,
            Step::Create(pod, ordinal) => {
                self.make_claims(set, ordinal).await?;
                match self.api(set).create(&PostParams::default(), &pod).await {
                    // The cache has not seen it yet.
                    Err(error) if is_already_exists(&error) => Ok(()),
                    result => {
                        self.tell(set, "Create", pod.name(), result.map(drop)).step("create pod", pod.name())
                    }
                }
            }
            Step::Repair(pod, ordinal) => {
                self.make_claims(set, ordinal).await?;
                let repaired = identity::repair(set, &pod, ordinal);
                let result = self.api(set).replace(pod.name(), &PostParams::default(), &repaired).await;
                self.tell(set, "Update", pod.name(), result.map(drop)).step("update pod", pod.name())
            }
            Step::Delete(pod) => {
                let this_one = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
                let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
                match self.api(set).delete(pod.name(), &parameters).await {
                    Err(error) if is_not_found(&error) => Ok(()),
                    result => {
                        self.tell(set, "Delete", pod.name(), result.map(drop)).step("delete pod", pod.name())
                    }
                }
            }
        }
    }

    /// Records how it went.
    fn tell<E>(&self, set: &StatefulSet, verb: &str, pod: &str, result: Result<(), E>) -> Result<(), E>
    where
        E: std::borrow::Borrow<kube::Error>,
    {
        let subject = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        match &result {
            Ok(()) => {
                let text = format!("{subject} successful");
                self.recorder.event(set, EventType::Normal, &format!("Successful{verb}"), text);
            }
            Err(error) => {
                let text = format!("{subject} failed error: {}", message(error.borrow()));
                self.recorder.event(set, EventType::Warning, &format!("Failed{verb}"), text);
            }
        }
        result
    }

    async fn report(
        &self,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
        current: &ControllerRevision,
        history: &History,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let status = status::calculate(set, pods, current, &history.update, history.collisions, now);
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api = Api::<StatefulSet>::namespaced(self.client.clone(), set.namespace());
        match api.replace_status(set.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of", set.name()),
        }
    }

    /// Pods become available by the passing of time alone.
    fn next_look(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> Action {
        let min_ready = set.spec.min_ready_seconds.unwrap_or(0);
        let next = pods::next_available(pods.iter().map(|pod| &**pod), min_ready, self.clock.now());
        next.map_or(Action::Done, |wait| Action::After(wait + Duration::from_millis(1)))
    }
}
