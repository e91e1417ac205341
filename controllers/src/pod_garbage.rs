//! Removing pods that nobody else will: of nodes that are gone, never scheduled and deleted, finished and too
//! many, or stuck on a node declared out of service.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue, error::is_not_found,
};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::{
    Context,
    error::{Error, Step},
    nodes, pods,
};

const WORKERS: usize = 4;
/// How long a node may be missing before its pods are removed: it may only be registered anew.
const QUARANTINE: Duration = Duration::from_secs(40);
/// How often finished pods are counted while there are more than enough.
const COUNT_PAUSE: Duration = Duration::from_secs(20);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Node(Arc<str>),
    Pod(ObjectKey),
    Finished,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pod(key) => write!(f, "pod {key}"),
            Self::Finished => f.write_str("finished pods"),
        }
    }
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (nodes, pods) = (context.informers.informer::<Node>(), context.informers.informer::<Pod>());
    pods::index::by_node(&pods);
    let queue = Arc::new(WorkQueue::<Key>::default());
    {
        let (queue, nodes) = (Arc::clone(&queue), nodes.clone());
        pods.subscribe(move |change| {
            if !matches!(change, Change::Deleted { .. }) {
                follow_pod(change.object(), &nodes, &queue);
            }
        })
        .forever();
    }
    {
        let (queue, pods) = (Arc::clone(&queue), pods.clone());
        nodes
            .subscribe(move |change| {
                let name = change.object().name();
                match &change {
                    Change::Deleted { .. } => queue.add_after(Key::Node(name.into()), QUARANTINE),
                    Change::Added(node) | Change::Updated { new: node, .. } if is_out_of_service(node) => {
                        let all = pods::index::on_node(&pods, name);
                        let going = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
                        going.for_each(|pod| queue.add(Key::Pod(ObjectKey::of(&**pod))));
                    }
                    _ => {}
                }
            })
            .forever();
    }
    let sync = Arc::new(Sync {
        nodes: nodes.clone(),
        pods: pods.clone(),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
        most_finished: context.config.terminated_pod_threshold,
    });
    context.work("pod-garbage-collector-controller", WORKERS, queue, sync, async move {
        tokio::join!(nodes.synced(), pods.synced());
    })
}

fn follow_pod(pod: &Pod, nodes: &SharedInformer<Node>, queue: &WorkQueue<Key>) {
    let node = pods::node_name(pod);
    if pod.metadata.deletion_timestamp.is_some() {
        queue.add(Key::Pod(ObjectKey::of(pod)));
    }
    if !node.is_empty() && nodes.get("", node).is_none() {
        queue.add_after(Key::Node(node.into()), QUARANTINE);
    }
    if pods::is_finished(pod) {
        queue.add_after(Key::Finished, COUNT_PAUSE);
    }
}

fn is_out_of_service(node: &Node) -> bool {
    nodes::ready_status(node) != Some("True")
        && nodes::taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

struct Sync {
    nodes: SharedInformer<Node>,
    pods: SharedInformer<Pod>,
    client: Client,
    clock: SharedClock,
    /// Zero for no limit.
    most_finished: usize,
}

impl Reconcile for Sync {
    type Key = Key;
    type Error = Error;

    async fn reconcile(&self, key: &Key) -> Result<Action, Error> {
        match key {
            Key::Node(name) => self.node_missing(name).await?,
            Key::Pod(key) => self.pod_stuck(key).await?,
            Key::Finished => self.remove_finished().await?,
        }
        Ok(Action::Done)
    }
}

impl Sync {
    async fn node_missing(&self, name: &str) -> Result<(), Error> {
        if self.nodes.get("", name).is_some() {
            return Ok(());
        }
        let found = Api::<Node>::all(self.client.clone()).get_opt(name).await.step("get node", name)?;
        if found.is_some() {
            return Ok(());
        }
        for pod in pods::index::on_node(&self.pods, name) {
            self.remove(&pod, Some("PodGC: node no longer exists")).await?;
        }
        Ok(())
    }

    async fn pod_stuck(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| pod.metadata.deletion_timestamp.is_some()) else {
            return Ok(());
        };
        let node = pods::node_name(&pod);
        let stuck = node.is_empty() || self.nodes.get("", node).is_some_and(|node| is_out_of_service(&node));
        if stuck { self.remove(&pod, None).await } else { Ok(()) }
    }

    /// Removes the oldest finished pods beyond the limit, evicted ones first.
    async fn remove_finished(&self) -> Result<(), Error> {
        if self.most_finished == 0 {
            return Ok(());
        }
        let mut finished = self.pods.filter(pods::is_finished);
        let surplus = finished.len().saturating_sub(self.most_finished);
        let evicted =
            |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
        finished.sort_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (!evicted(pod), created, pod.metadata.name.clone())
        });
        for pod in finished.into_iter().take(surplus) {
            self.remove(&pod, None).await?;
        }
        Ok(())
    }

    /// Marks a pod as failed, so that its owner counts it right, and removes it without waiting for anybody.
    async fn remove(&self, pod: &Pod, disruption: Option<&str>) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        if !pods::is_finished(pod) {
            let mut status = json!({ "phase": "Failed" });
            if let Some(text) = disruption {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget",
                    "status": "True",
                    "reason": "DeletionByPodGC",
                    "message": text,
                    "lastTransitionTime": Time(self.clock.now()),
                }]);
            }
            let patch = json!({ "metadata": { "uid": pod.uid() }, "status": status });
            match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Err(error) if is_not_found(&error) => return Ok(()),
                other => drop(other.step("update status of pod", name)?),
            }
        }
        let this_one = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(this_one),
            ..DeleteParams::default()
        };
        match api.delete(name, &parameters).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("delete pod", name),
        }
    }
}
