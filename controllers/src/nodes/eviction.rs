//! Driving pods away from nodes with NoExecute taints, at once or when their toleration runs out.

pub(crate) mod tolerance;

use std::{collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::is_not_found,
    events::{EventRecorder, EventType},
};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use self::tolerance::{Tolerance, tolerance};
use crate::{
    Context,
    error::{Error, Step},
    pods,
};

const COMPONENT: &str = "taint-eviction-controller";
const WORKERS: usize = 8;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (nodes, pods) = (context.informers.informer::<Node>(), context.informers.informer::<Pod>());
    pods::index::by_node(&pods);
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    {
        let queue = Arc::clone(&queue);
        pods.subscribe(move |change| {
            let view =
                |pod: &Pod| pod.spec.as_ref().map(|spec| (spec.node_name.clone(), spec.tolerations.clone()));
            if let Change::Updated { old, new } = &change
                && view(old) == view(new)
            {
                return;
            }
            if !pods::node_name(change.object()).is_empty() {
                queue.add(ObjectKey::of(&**change.object()));
            }
        })
        .forever();
    }
    {
        let (queue, pods) = (Arc::clone(&queue), pods.clone());
        nodes
            .subscribe(move |change| {
                if let Change::Updated { old, new } = &change
                    && tolerance::no_execute(old) == tolerance::no_execute(new)
                {
                    return;
                }
                for pod in pods::index::on_node(&pods, change.object().name()) {
                    queue.add(ObjectKey::of(&*pod));
                }
            })
            .forever();
    }
    let sync = Arc::new(Sync {
        nodes: nodes.clone(),
        pods: pods.clone(),
        marked: Mutex::default(),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
        recorder: context.recorder(COMPONENT),
    });
    context.work(COMPONENT, WORKERS, queue, sync, async move {
        tokio::join!(nodes.synced(), pods.synced());
    })
}

struct Sync {
    nodes: SharedInformer<Node>,
    pods: SharedInformer<Pod>,
    /// Since when each pod that is going to be driven away tolerates what drives it.
    marked: Mutex<HashMap<ObjectKey, Instant>>,
    client: Client,
    clock: SharedClock,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| pod.metadata.deletion_timestamp.is_none()) else {
            self.marked.lock().remove(key);
            return Ok(Action::Done);
        };
        let node = self.nodes.get("", pods::node_name(&pod));
        let taints = node.as_deref().map(tolerance::no_execute).unwrap_or_default();
        match tolerance(&pod, &taints) {
            Tolerance::Forever => {
                self.pardon(key, &pod);
                Ok(Action::Done)
            }
            Tolerance::For(time) => {
                let since = *self.marked.lock().entry(key.clone()).or_insert_with(Instant::now);
                match time.saturating_sub(since.elapsed()) {
                    left if left.is_zero() => self.evict(key, &pod).await,
                    left => Ok(Action::After(left)),
                }
            }
            Tolerance::No => self.evict(key, &pod).await,
        }
    }
}

impl Sync {
    fn pardon(&self, key: &ObjectKey, pod: &Pod) {
        if self.marked.lock().remove(key).is_some() {
            let text = format!("Cancelling deletion of Pod {key}");
            self.recorder.event(pod, EventType::Normal, "TaintManagerEviction", text);
        }
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<Action, Error> {
        let text = format!("Marking for deletion Pod {key}");
        self.recorder.event(pod, EventType::Normal, "TaintManagerEviction", text);
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(self.clock.now()),
        });
        let patch = json!({ "metadata": { "uid": pod.uid() }, "status": { "conditions": [condition] } });
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if is_not_found(&error) => return Ok(Action::Done),
            other => drop(other.step("update status of pod", &key.name)?),
        }
        let this_one = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        match api.delete(&key.name, &parameters).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("delete pod", &key.name)?),
        }
        self.marked.lock().remove(key);
        Ok(Action::Done)
    }
}
