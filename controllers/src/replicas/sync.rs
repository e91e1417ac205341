//! One look at one owner: claim its pods, create or delete the difference, tell the status.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Client, ObjectKey, Reconcile, SharedInformer,
    error::is_namespace_terminating,
    expectations::Expectations,
    ownership::{Claim, Claimer, claim, slow_start},
};
use kube::{api::PostParams, core::Selector};

use super::{
    kinds::Replicated,
    status::{Seen, Status, calculate},
    victims,
};
use crate::{
    error::{Error, Step},
    pods::{
        self,
        control::{PodControl, from_template, is_gone},
    },
};

/// Pods created or deleted in one go.
const BURST: usize = 500;

pub(super) struct Sync<O: Replicated> {
    pub(super) owners: SharedInformer<O>,
    pub(super) pods: SharedInformer<Pod>,
    pub(super) expectations: Arc<Expectations>,
    pub(super) control: PodControl,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

impl<O: Replicated> Reconcile for Sync<O> {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(owner) = self.owners.get_key(key) else {
            self.expectations.forget(key);
            return Ok(Action::Done);
        };
        let trusted = self.expectations.satisfied(key);
        let selector = owner.pod_selector()?;
        let candidates = self.candidates(&*owner);
        let terminating = candidates.iter().filter(|pod| is_terminating_of(&*owner, &selector, pod)).count();
        let active = candidates.into_iter().filter(|pod| pods::is_active(pod)).collect();
        let active = Claimer::new(&self.client, &*owner, &selector).claim_all(active).await?;

        let outcome = if trusted && owner.meta().deletion_timestamp.is_none() {
            self.adjust(key, &owner, &active).await
        } else {
            Ok(())
        };
        let now = self.clock.now();
        let failure = outcome.as_ref().err().map(failure_text);
        let terminating = O::REPORTS_TERMINATING.then_some(terminating);
        let seen = Seen { active: &active, terminating, failure, now };
        let status = calculate(&*owner, &seen);
        self.write_status(&owner, &status).await?;
        outcome?;
        Ok(next_look(&*owner, &status, &active, now))
    }
}

/// What the condition says: the server's own words.
fn failure_text(error: &Error) -> String {
    error.answer().map_or_else(|| error.to_string(), knarr_client::error::message)
}

fn is_terminating_of<O: Replicated>(owner: &O, selector: &Selector, pod: &Pod) -> bool {
    pods::is_terminating(pod) && claim(owner.meta(), selector, &pod.metadata) == Claim::Keep
}

/// Pods become available by the passing of time alone.
fn next_look<O: Replicated>(owner: &O, status: &Status, active: &[Arc<Pod>], now: Timestamp) -> Action {
    let min_ready = owner.min_ready_seconds();
    if min_ready <= 0 || status.ready == status.available {
        return Action::Done;
    }
    let all = Duration::from_secs(min_ready.unsigned_abs().into());
    Action::After(pods::next_available(active.iter().map(|pod| &**pod), min_ready, now).unwrap_or(all))
}

impl<O: Replicated> Sync<O> {
    /// The owner's pods and those that nobody owns.
    fn candidates(&self, owner: &O) -> Vec<Arc<Pod>> {
        let mut found = pods::index::owned_by(&self.pods, owner.meta().uid.as_deref().unwrap_or_default());
        found.extend(pods::index::orphans_in(
            &self.pods,
            owner.meta().namespace.as_deref().unwrap_or_default(),
        ));
        found
    }

    async fn adjust(&self, key: &ObjectKey, owner: &Arc<O>, active: &[Arc<Pod>]) -> Result<(), Error> {
        let desired = owner.desired();
        if active.len() < desired {
            self.create(key, &**owner, (desired - active.len()).min(BURST)).await
        } else if active.len() > desired {
            let related = self.related(owner);
            let count = (active.len() - desired).min(BURST);
            self.delete(key, &**owner, victims::choose(active.to_vec(), &related, count, self.clock.now()))
                .await
        } else {
            Ok(())
        }
    }

    async fn create(&self, key: &ObjectKey, owner: &O, count: usize) -> Result<(), Error> {
        let Some(template) = owner.template() else {
            return Err(Error::Unusable(format!("{key} has no pod template")));
        };
        let pod = from_template(template, owner);
        self.expectations.expect_creations(key, count);
        let (created, _, failure) = slow_start(count, |_| async {
            match self.control.create(owner, &pod).await {
                // Every further one would be refused too, and the owner goes with the namespace.
                Err(error) if error.answer().is_some_and(is_namespace_terminating) => Ok(()),
                other => other.map(drop),
            }
        })
        .await;
        // Those that failed or were not tried will never be seen.
        self.expectations.creations_observed(key, count - created);
        failure.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &ObjectKey, owner: &O, victims: Vec<Arc<Pod>>) -> Result<(), Error> {
        let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
        let uids: Vec<String> = victims.iter().map(uid).collect();
        self.expectations.expect_deletions(key, uids.iter().map(String::as_str));
        let deletions = victims.iter().map(|pod| async move {
            let result = self.control.delete(owner, pod).await;
            if result.is_err() {
                self.expectations.deletion_observed(key, &uid(pod));
            }
            result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
        });
        futures::future::join_all(deletions).await.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    /// All active pods of the owner and its siblings.
    fn related(&self, owner: &Arc<O>) -> Vec<Arc<Pod>> {
        let siblings = owner.siblings(&self.owners);
        let uids = siblings.iter().map(|sibling| sibling.meta().uid.as_deref().unwrap_or_default());
        uids.flat_map(|uid| pods::index::owned_by(&self.pods, uid))
            .filter(|pod| pods::is_active(pod))
            .collect()
    }

    async fn write_status(&self, owner: &O, status: &Status) -> Result<(), Error> {
        if owner.status() == *status {
            return Ok(());
        }
        let mut updated = owner.clone();
        updated.set_status(status.clone());
        let name = owner.meta().name.as_deref().unwrap_or_default();
        let api =
            Api::<O>::namespaced(self.client.clone(), owner.meta().namespace.as_deref().unwrap_or_default());
        api.replace_status(name, &PostParams::default(), &updated)
            .await
            .map(drop)
            .step("update status of", name)
    }
}
