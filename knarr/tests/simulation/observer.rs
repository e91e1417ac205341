//! Looks on from the side of the server, and notes what must never be.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knarr_api::time::SharedRandom;
use knarr_client::{Cached, Change, Client, InformerFactory, SharedInformer, object::controller_of};
use parking_lot::Mutex;

use crate::components::NODES;
use crate::faults::Faults;
use crate::users::{AGENT, FITS, MOST_REPLICAS, QUOTA, SMALL, TEMPLATES};

/// More than a Deployment's replicas while it is being updated: once for each template, because a controller that
/// has not heard yet of the last set it made leaves room for another.
const SURGE: usize = MOST_REPLICAS.div_ceil(4) * TEMPLATES as usize;

pub struct Observer {
    informers: InformerFactory,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Observer {
    pub fn start(client: Client, random: SharedRandom, faults: Arc<Faults>) -> Self {
        let informers = InformerFactory::new(client, random);
        let (pods, seen) = (informers.informer::<Pod>(), Arc::new(Mutex::new(Vec::new())));
        let (all, notes) = (pods.clone(), seen.clone());
        pods.subscribe(move |change| notes.lock().extend(wrongs(&change, &all, &faults))).forever();
        informers.start();
        Self { informers, seen }
    }

    /// # Panics
    /// If anything was seen that must not be.
    pub fn check(&self) {
        let seen = self.seen.lock();
        assert!(seen.is_empty(), "seen: {}", seen.join("; "));
    }

    pub async fn stop(self) {
        self.informers.stop().await;
        self.check();
    }
}

pub fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_active(pod: &Pod) -> bool {
    !is_over(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn wrongs(change: &Change<'_, Pod>, pods: &SharedInformer<Pod>, faults: &Faults) -> Vec<String> {
    let pod = change.object();
    let name = format!("{}/{}", pod.namespace(), pod.name());
    let mut wrongs = Vec::new();
    if let Change::Updated { old, new } = change
        && let Some(before) = node_of(old)
        && old.uid() == new.uid()
        && node_of(new) != Some(before)
    {
        wrongs.push(format!("{name} was bound to {before} and then to {:?}", node_of(new)));
    }
    if let Some(node) = node_of(pod) {
        let here = pods.filter(|other| node_of(other) == Some(node) && !is_over(other)).len();
        if here > FITS {
            wrongs.push(format!("{here} pods are on {node} when {name} comes, where {FITS} fit"));
        }
    }
    let counted = pods.in_namespace(SMALL).iter().filter(|pod| !is_over(pod)).count();
    if counted > QUOTA {
        wrongs.push(format!("{counted} pods are in a namespace that may have {QUOTA}"));
    }
    // Owners count the pods they wait to see. One that they were not told of is taken for another, which is made
    // once more, and so on: that ends with the pods of one round.
    let rounds = if faults.unanswered_pods() == 0 { 1 } else { 2 };
    for (owner, count) in active_by_owner(pods) {
        let most = if owner == AGENT { NODES as usize } else { MOST_REPLICAS + SURGE };
        if count > most * rounds {
            wrongs.push(format!("{count} pods of {owner}, which may have {most}, in {rounds} rounds"));
        }
    }
    wrongs
}

/// Active pods by the app they are of: all ReplicaSets of a Deployment count together.
fn active_by_owner(pods: &SharedInformer<Pod>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods.filter(|pod| is_active(pod) && controller_of(&pod.metadata).is_some()) {
        if let Some(app) = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")) {
            *counts.entry(app.clone()).or_default() += 1;
        }
    }
    counts
}
