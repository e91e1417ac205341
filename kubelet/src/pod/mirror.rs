//! Mirror pods: the API's picture of static pods, so that users see them. Kept equal to the manifests; deleting one
//! only brings it back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knarr_client::Api;
use knarr_client::informer::SharedInformer;
use kube::api::{DeleteParams, PostParams, Preconditions};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::spec;
use crate::agent::Agent;

/// After a request that failed.
const RETRY: Duration = Duration::from_secs(5);

/// Static pods by namespace and name.
pub struct Mirrors {
    wanted: Mutex<HashMap<(String, String), Arc<Pod>>>,
    changed: Notify,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self { wanted: Mutex::default(), changed: Notify::new() }
    }
}

fn key(pod: &Pod) -> (String, String) {
    (spec::namespace(pod).to_owned(), spec::name(pod).to_owned())
}

fn hash(pod: &Pod) -> Option<&str> {
    spec::annotation(pod, spec::CONFIG_HASH)
}

impl Mirrors {
    pub fn add(&self, pod: &Arc<Pod>) {
        self.wanted.lock().insert(key(pod), Arc::clone(pod));
        self.changed.notify_one();
    }

    pub fn remove(&self, pod: &Arc<Pod>) {
        let mut wanted = self.wanted.lock();
        // A changed manifest has put its successor there already.
        if wanted.get(&key(pod)).is_some_and(|have| spec::uid(have) == spec::uid(pod)) {
            wanted.remove(&key(pod));
        }
        drop(wanted);
        self.changed.notify_one();
    }

    /// The API showed a mirror pod: its static pod's status goes there.
    pub fn observe(&self, agent: &Agent, mirror: &Arc<Pod>) {
        let current = self.wanted.lock().get(&key(mirror)).cloned();
        if let Some(pod) = current.filter(|pod| hash(pod) == spec::annotation(mirror, spec::CONFIG_MIRROR)) {
            agent.status.observe(spec::uid(&pod), mirror);
        }
        self.changed.notify_one();
    }

    /// The API no longer has a mirror pod.
    pub fn lost(&self, agent: &Agent, mirror: &Pod) {
        if let Some(uid) = spec::annotation(mirror, spec::CONFIG_MIRROR) {
            agent.status.mirror_lost(uid, mirror);
        }
        self.changed.notify_one();
    }

    /// Makes what is missing and removes what is stale, for ever.
    pub async fn run(self: Arc<Self>, agent: Arc<Agent>, pods: SharedInformer<Pod>) {
        pods.synced().await;
        loop {
            self.changed.notified().await;
            while let Err(error) = self.reconcile(&agent, &pods).await {
                tracing::warn!(%error, "cannot bring mirror pods up to date");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn reconcile(&self, agent: &Agent, pods: &SharedInformer<Pod>) -> kube::Result<()> {
        let wanted: HashMap<_, _> = self.wanted.lock().clone();
        let there = pods.filter(spec::is_mirror);
        for mirror in &there {
            let current = wanted.get(&key(mirror));
            let matches =
                current.is_some_and(|pod| hash(pod) == spec::annotation(mirror, spec::CONFIG_MIRROR));
            if !matches || spec::being_deleted(mirror) {
                delete(agent, mirror).await?;
            }
        }
        for (name, pod) in wanted {
            if !there.iter().any(|mirror| key(mirror) == name) {
                create(agent, &pod).await?;
            }
        }
        Ok(())
    }
}

async fn delete(agent: &Agent, mirror: &Pod) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), spec::namespace(mirror));
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(spec::name(mirror), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn create(agent: &Agent, pod: &Pod) -> kube::Result<()> {
    let mut mirror = pod.clone();
    let notes = mirror.metadata.annotations.get_or_insert_default();
    if let Some(hash) = hash(pod) {
        notes.insert(spec::CONFIG_MIRROR.to_owned(), hash.to_owned());
    }
    mirror.metadata.uid = None;
    mirror.status = None;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(agent.client.clone());
    let node = nodes.get(&agent.config.node_name).await?;
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: agent.config.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    let api: Api<Pod> = Api::namespaced(agent.client.clone(), spec::namespace(pod));
    match api.create(&PostParams::default(), &mirror).await {
        Ok(created) => {
            agent.status.observe(spec::uid(pod), &Arc::new(created));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
