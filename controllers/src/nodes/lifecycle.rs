//! Watching that nodes are alive: a silent one becomes Unknown, is tainted, and its pods are not ready.
//!
//! ```text
//!   lease renewed or status posted --> alive until now + grace
//!   grace over --> conditions Unknown --> NoSchedule taint at once, NoExecute taint at the zone's rate
//! ```
//!
//! Silence is measured on our own clock from when we saw the last sign of life, never by comparing times that
//! another machine wrote. Each node is looked at when its grace would end and not before.

mod health;
mod taints;
mod zones;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod, Taint},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::is_not_found,
    events::{EventRecorder, EventType},
};
use kube::{
    Resource,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;

use self::{health::Health, zones::Zones};
use super::{event, ready_status};
use crate::{
    Context,
    context::{NodesConfig, follow},
    error::{Error, Step},
    pods,
};

const WORKERS: usize = 8;
const LEASES: &str = "kube-node-lease";
/// How soon a node that is to be tainted is looked at again when its zone's rate does not allow it yet.
const TAINT_RETRY: Duration = Duration::from_secs(5);

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (nodes, pods) = (context.informers.informer::<Node>(), context.informers.informer::<Pod>());
    // All leases, not only those of nodes: garbage collection watches them too, and then one watch serves both.
    let leases = context.informers.informer::<Lease>();
    pods::index::by_node(&pods);
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    let health = Arc::new(Health::new());
    let recorder = context.recorder("node-controller");
    follow_nodes(&nodes, &health, &recorder);
    follow(&nodes, &queue);
    {
        let health = Arc::clone(&health);
        leases
            .subscribe(move |change| {
                // Not queued: a sign of life only moves the time at which the node is looked at anyway.
                if !matches!(change, Change::Deleted { .. })
                    && change.object().metadata.namespace.as_deref() == Some(LEASES)
                    && let Some(name) = change.object().metadata.name.as_deref()
                {
                    health.heard_from(name);
                }
            })
            .forever();
    }
    let sync = Arc::new(Sync {
        nodes: nodes.clone(),
        pods: pods.clone(),
        health,
        zones: Mutex::new(Zones::default()),
        config: context.config.nodes.clone(),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
        recorder,
    });
    context.work("node-lifecycle-controller", WORKERS, queue, sync, async move {
        tokio::join!(nodes.synced(), pods.synced(), leases.synced());
    })
}

fn follow_nodes(nodes: &SharedInformer<Node>, health: &Arc<Health>, recorder: &EventRecorder) {
    let (health, recorder) = (Arc::clone(health), recorder.clone());
    nodes
        .subscribe(move |change| {
            let name = change.object().metadata.name.as_deref().unwrap_or_default();
            match &change {
                Change::Added(_) => {
                    health.heard_from(name);
                    let text = format!("Node {name} event: Registered Node {name} in Controller");
                    event(&recorder, name, "RegisteredNode", text);
                }
                Change::Updated { old, new } => {
                    let heartbeat = |node: &Node| {
                        super::condition(node, "Ready")
                            .and_then(|condition| condition.last_heartbeat_time.clone())
                    };
                    if heartbeat(old) != heartbeat(new) {
                        health.heard_from(name);
                    }
                }
                Change::Deleted { .. } => {
                    health.forget(name);
                    let text = format!("Node {name} event: Removing Node {name} from Controller");
                    event(&recorder, name, "RemovingNode", text);
                }
            }
        })
        .forever();
}

struct Sync {
    nodes: SharedInformer<Node>,
    pods: SharedInformer<Pod>,
    health: Arc<Health>,
    zones: Mutex<Zones>,
    config: NodesConfig,
    client: Client,
    clock: SharedClock,
    recorder: EventRecorder,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(cached) = self.nodes.get_key(key) else { return Ok(Action::Done) };
        let node = &*cached;
        let name = &*key.name;
        self.mirror_labels(node, name).await?;
        let never_spoke = ready_status(node).is_none();
        let grace = if never_spoke { self.config.startup_grace } else { self.config.monitor_grace };
        let silent = self.health.silence(name);
        if silent > grace
            && let Some(marked) = health::mark_silent(node, self.clock.now())
        {
            // The change comes back, and then taints follow.
            self.write_status(name, &marked).await?;
            return Ok(Action::Done);
        }
        self.follow_conditions(node, name).await?;
        self.mark_pods(node, name).await?;
        let tainted = self.settle_no_execute(node, name).await?;
        let next = grace.saturating_sub(silent) + Duration::from_secs(1);
        Ok(match (silent > grace, tainted) {
            (_, false) => Action::After(TAINT_RETRY),
            // Nothing changes any more before the node is heard from, which it says itself.
            (true, true) => Action::Done,
            (false, true) => Action::After(next),
        })
    }
}

impl Sync {
    fn api(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    async fn write_status(&self, name: &str, node: &Node) -> Result<(), Error> {
        match self.api().replace_status(name, &PostParams::default(), node).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of node", name),
        }
    }

    async fn write_taints(&self, node: &Node, name: &str, taints: &[Taint]) -> Result<(), Error> {
        let taints = if taints.is_empty() { serde_json::Value::Null } else { json!(taints) };
        let patch = json!({
            "metadata": { "resourceVersion": node.metadata.resource_version },
            "spec": { "taints": taints },
        });
        match self.api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("taint node", name),
        }
    }

    /// Keeps the NoSchedule taints that say what the conditions say.
    async fn follow_conditions(&self, node: &Node, name: &str) -> Result<(), Error> {
        match taints::no_schedule(node, self.clock.now()) {
            Some(taints) => self.write_taints(node, name, &taints).await,
            None => Ok(()),
        }
    }

    /// Sets or removes the NoExecute taint; whether it is as it should be, now or after the write comes back.
    async fn settle_no_execute(&self, node: &Node, name: &str) -> Result<bool, Error> {
        let wanted = match ready_status(node) {
            None => return Ok(true),
            Some("True") => None,
            Some("False") => Some(taints::NOT_READY),
            Some(_) => Some(taints::UNREACHABLE),
        };
        let Some(changed) = taints::no_execute(node, wanted, self.clock.now()) else { return Ok(true) };
        if wanted.is_some() && !taints::has_no_execute(node) {
            let nodes = self.nodes.list();
            let decision = self.zones.lock().decide(node, &nodes, &self.config);
            match decision {
                zones::Decision::Taint => {}
                zones::Decision::Wait => return Ok(false),
                zones::Decision::AllDown => return Ok(false),
            }
        }
        self.write_taints(node, name, &changed).await?;
        Ok(true)
    }

    /// The pods of a node that is not ready are not ready either.
    async fn mark_pods(&self, node: &Node, name: &str) -> Result<(), Error> {
        if !matches!(ready_status(node), Some("Unknown")) {
            return Ok(());
        }
        let ready = pods::index::on_node(&self.pods, name);
        let ready: Vec<_> = ready.into_iter().filter(|pod| pods::is_ready(pod)).collect();
        if self.health.note_down(name) {
            event(&self.recorder, name, "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
        }
        for pod in ready {
            self.recorder.event(&*pod, EventType::Warning, "NodeNotReady", "Node is not ready");
            let condition = json!({
                "type": "Ready",
                "status": "False",
                "lastTransitionTime": Time(self.clock.now()),
            });
            let patch = json!({
                "metadata": { "uid": pod.meta().uid },
                "status": { "conditions": [condition] },
            });
            let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
            match api.patch_status(pod_name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Err(error) if is_not_found(&error) => {}
                other => drop(other.step("update status of pod", pod_name)?),
            }
        }
        Ok(())
    }

    /// Old clients select nodes by the labels' former names.
    async fn mirror_labels(&self, node: &Node, name: &str) -> Result<(), Error> {
        const NAMES: [(&str, &str); 2] = [
            ("kubernetes.io/os", "beta.kubernetes.io/os"),
            ("kubernetes.io/arch", "beta.kubernetes.io/arch"),
        ];
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let stale: std::collections::BTreeMap<_, _> = NAMES
            .iter()
            .filter_map(|(new, old)| {
                labels.get(*new).filter(|value| labels.get(*old) != Some(value)).map(|v| (*old, v))
            })
            .collect();
        if stale.is_empty() {
            return Ok(());
        }
        let patch = json!({ "metadata": { "labels": stale } });
        match self.api().patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("label node", name),
        }
    }
}
