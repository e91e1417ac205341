//! One look at one DaemonSet.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{Node, Pod},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_namespace_terminating, is_not_found},
    events::EventType,
    expectations::Expectations,
    ownership::{Claimer, selector, slow_start},
};
use kube::api::PostParams;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    fit,
    place::{Changes, View},
    status,
};
use crate::{
    error::{Error, Step},
    pods::{
        self,
        control::{PodControl, is_gone},
    },
    revisions::{Revisions, hash_of},
};

/// Pods created or deleted in one go.
const BURST: usize = 250;
/// Pauses between deletions of failed pods on one node: a node that refuses a pod would refuse the next one too.
const FAILURE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

pub(super) struct Sync {
    pub(super) sets: SharedInformer<DaemonSet>,
    pub(super) pods: SharedInformer<Pod>,
    pub(super) nodes: SharedInformer<Node>,
    pub(super) revisions: Revisions,
    pub(super) expectations: Arc<Expectations>,
    /// By set and node, when a failed pod was last deleted and how long to wait with the next.
    pub(super) failures: Mutex<HashMap<(ObjectKey, String), (Instant, Duration)>>,
    pub(super) control: PodControl,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(set) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            self.failures.lock().retain(|(other, _), _| other != key);
            return Ok(Action::Done);
        };
        if set.spec.selector == LabelSelector::default() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.control.recorder.event(&*set, EventType::Warning, "SelectingAll", text);
            return Ok(Action::Done);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
        let history = self.revisions.history(&*set, collisions).await?;
        let hash = hash_of(&history.update).to_owned();
        let pods = self.claim(&set).await?;
        let nodes = self.nodes.list();
        let view = View::new(&set, &nodes, &pods, &hash, self.clock.now());
        let mut next = None;
        let mut outcome = Ok(());
        if self.expectations.satisfied(key) {
            let mut changes = view.place();
            next = self.take_ended(key, &set, &mut changes);
            if changes == Changes::default() && rolls(&set) {
                changes = view.roll()?;
            }
            outcome = self.carry_out(key, &set, changes, &hash).await;
            let live = |revision: &k8s_openapi::api::apps::v1::ControllerRevision| {
                pods.iter().any(|pod| fit::hash(pod) == hash_of(revision))
            };
            self.revisions.truncate(&*set, &history, live).await?;
        }
        self.report(&set, status::calculate(&view, history.collisions)).await?;
        outcome?;
        let ready = pods::next_available(pods.iter().map(|pod| &**pod), view.min_ready(), view.now);
        Ok(next.into_iter().chain(ready).min().map_or(Action::Done, Action::After))
    }
}

fn rolls(set: &DaemonSet) -> bool {
    set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

impl Sync {
    async fn claim(&self, set: &DaemonSet) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = selector(&set.spec.selector)?;
        let mut candidates = pods::index::owned_by(&self.pods, set.uid());
        candidates.extend(pods::index::orphans_in(&self.pods, set.namespace()));
        Ok(Claimer::new(&self.client, set, &selector).claim_all(candidates).await?)
    }

    /// Moves the ended pods that may be deleted now to the deletions; how long until the next may.
    fn take_ended(&self, key: &ObjectKey, set: &DaemonSet, changes: &mut Changes) -> Option<Duration> {
        let mut next = None;
        for pod in std::mem::take(&mut changes.ended) {
            let node = pods::node_name(&pod).to_owned();
            let name = format!("{}/{}", pod.namespace(), pod.name());
            if pods::phase(&pod) == "Succeeded" {
                let text = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                self.control.recorder.event(set, EventType::Normal, "SucceededDaemonPod", text);
            } else if let Some(wait) = self.failure_wait(key, &node) {
                next = next.into_iter().chain([wait]).min();
                continue;
            } else {
                let text = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                self.control.recorder.event(set, EventType::Warning, "FailedDaemonPod", text);
            }
            changes.delete.push(pod);
        }
        next
    }

    /// How long a failed pod on a node still has to stay; `None` to delete it now, which makes the next wait longer.
    fn failure_wait(&self, key: &ObjectKey, node: &str) -> Option<Duration> {
        let (now, mut failures) = (Instant::now(), self.failures.lock());
        let entry = failures.entry((key.clone(), node.to_owned())).or_insert((now, Duration::ZERO));
        let left = entry.1.saturating_sub(now.saturating_duration_since(entry.0));
        if !left.is_zero() {
            return Some(left);
        }
        // A node that was quiet for twice the longest pause starts anew.
        let quiet = now.saturating_duration_since(entry.0) > FAILURE.1 * 2;
        let pause = if quiet || entry.1.is_zero() { FAILURE.0 } else { (entry.1 * 2).min(FAILURE.1) };
        *entry = (now, pause);
        None
    }

    async fn carry_out(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        changes: Changes,
        hash: &str,
    ) -> Result<(), Error> {
        let (mut create, mut delete) = (changes.create, changes.delete);
        create.truncate(BURST);
        delete.truncate(BURST);
        if create.is_empty() && delete.is_empty() {
            return Ok(());
        }
        self.expectations.expect_both(key, create.len(), delete.iter().map(|pod| pod.uid()));
        let (created, _, failure) = slow_start(create.len(), |index| {
            let pod = fit::make(set, &create[index], hash);
            async move {
                match self.control.create(set, &pod).await {
                    Err(error) if error.answer().is_some_and(is_namespace_terminating) => Ok(()),
                    other => other.map(drop),
                }
            }
        })
        .await;
        self.expectations.creations_observed(key, create.len() - created);
        let deletions = delete.iter().map(|pod| async move {
            let result = self.control.delete(set, pod).await;
            if result.is_err() {
                self.expectations.deletion_observed(key, pod.uid());
            }
            result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
        });
        let deleted = futures::future::join_all(deletions).await;
        match failure {
            Some(error) => Err(error),
            None => deleted.into_iter().find(Result::is_err).unwrap_or(Ok(())),
        }
    }

    async fn report(
        &self,
        set: &DaemonSet,
        status: k8s_openapi::api::apps::v1::DaemonSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let mut updated = set.clone();
        updated.status = Some(status);
        let api = Api::<DaemonSet>::namespaced(self.client.clone(), set.namespace());
        match api.replace_status(set.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of", set.name()),
        }
    }
}
