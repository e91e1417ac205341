//! What users ask for, and how they change their minds.

use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ResourceQuota};
use knarr_api::time::SharedRandom;
use knarr_client::{Api, Client};
use kube::Resource;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::components::NODES;

pub const SHOP: &str = "shop";
/// A namespace with a quota.
pub const SMALL: &str = "small";
/// How many pods it may have.
pub const QUOTA: usize = 5;
/// The DaemonSet.
pub const AGENT: &str = "agent";
/// No owner is asked to keep more pods than these.
pub const MOST_REPLICAS: usize = 6;
/// Pods that fit on a node: it has 32 CPUs, and each pod asks for four.
pub const FITS: usize = 8;

/// How many templates an app has, which differ in their image.
pub const TEMPLATES: u64 = 3;

const DEPLOYMENTS: u64 = 3;
const STATEFUL_SETS: u64 = 2;

pub struct Users {
    client: Client,
    chance: SharedRandom,
    jobs: u64,
}

/// A pod of an app; its image is what changes.
fn template(app: &str, image: u64, more: Value) -> Value {
    let resources = json!({"requests": {"cpu": "4"}});
    let container = json!({"name": "main", "image": format!("image:{image}"), "resources": resources});
    let mut spec = json!({"containers": [container]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"metadata": {"labels": {"app": app}}, "spec": spec})
}

impl Users {
    pub fn new(client: Client, chance: SharedRandom) -> Self {
        Self { client, chance, jobs: 0 }
    }

    fn below(&self, bound: u64) -> u64 {
        self.chance.below(bound)
    }

    /// Namespaces and the quota, before any trouble.
    pub async fn prepare(&self) {
        for name in [SHOP, SMALL] {
            self.apply(Api::<Namespace>::all(self.client.clone()), name, json!({})).await;
        }
        let quota = Api::<ResourceQuota>::namespaced(self.client.clone(), SMALL);
        self.apply(quota, "pods", json!({"spec": {"hard": {"pods": QUOTA.to_string()}}})).await;
    }

    /// Does one thing.
    pub async fn act(&mut self) {
        match self.below(12) {
            0..=3 => self.deploy(SHOP, &format!("web-{}", self.below(DEPLOYMENTS)), true).await,
            4 => self.deploy(SMALL, "crowd", false).await,
            5 => self.run_stateful_set().await,
            6 => self.run_agent().await,
            7 | 8 => self.run_job().await,
            9 => self.delete_something().await,
            10 => self.delete_a_pod().await,
            _ => self.cordon(self.below(u64::from(NODES)), self.below(2) == 0).await,
        }
    }

    /// All nodes may be used again, so that all can become as asked.
    pub async fn uncordon_all(&self) {
        for node in 0..u64::from(NODES) {
            self.cordon(node, false).await;
        }
    }

    /// Has everything removed.
    pub async fn leave(&self) {
        for name in [SHOP, SMALL] {
            self.delete(Api::<Namespace>::all(self.client.clone()), name, &DeleteParams::default()).await;
        }
    }

    async fn deploy(&self, namespace: &str, name: &str, changes: bool) {
        let image = if changes { self.below(TEMPLATES) } else { 0 };
        let spec = json!({
            "replicas": self.below(MOST_REPLICAS as u64 + 1),
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, image, json!({})),
        });
        self.apply(self.api::<Deployment>(namespace), name, json!({"spec": spec})).await;
    }

    async fn run_stateful_set(&self) {
        let name = format!("db-{}", self.below(STATEFUL_SETS));
        let spec = json!({
            "replicas": self.below(5),
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": template(&name, self.below(TEMPLATES), json!({})),
        });
        self.apply(self.api::<StatefulSet>(SHOP), &name, json!({"spec": spec})).await;
    }

    async fn run_agent(&self) {
        let spec = json!({
            "selector": {"matchLabels": {"app": AGENT}},
            "template": template(AGENT, self.below(TEMPLATES), json!({})),
        });
        self.apply(self.api::<DaemonSet>(SHOP), AGENT, json!({"spec": spec})).await;
    }

    async fn run_job(&mut self) {
        self.jobs += 1;
        let name = format!("sum-{}", self.jobs);
        let mut template = template(&name, 0, json!({"restartPolicy": "Never"}));
        let seconds = self.below(30).to_string();
        template["metadata"]["annotations"] = json!({knarr_kubelet::sim::RUN_SECONDS: seconds});
        let mode = if self.below(2) == 0 { "Indexed" } else { "NonIndexed" };
        let spec = json!({
            "completions": 1 + self.below(5),
            "parallelism": 1 + self.below(3),
            "completionMode": mode,
            // Pods that are deleted count as failed.
            "backoffLimit": 1000,
            "template": template,
        });
        self.apply(self.api::<Job>(SHOP), &name, json!({"spec": spec})).await;
    }

    async fn delete_something(&self) {
        let how = match self.below(2) {
            0 => DeleteParams::foreground(),
            _ => DeleteParams::background(),
        };
        match self.below(3) {
            0 => self.delete(self.api::<Deployment>(SHOP), "web-0", &how).await,
            1 => self.delete(self.api::<StatefulSet>(SHOP), "db-0", &how).await,
            _ => self.delete(self.api::<Job>(SHOP), &format!("sum-{}", self.jobs), &how).await,
        }
    }

    async fn delete_a_pod(&self) {
        let pods = self.api::<Pod>(SHOP);
        let Ok(all) = pods.list(&ListParams::default()).await else { return };
        let pick = self.below(all.items.len() as u64) as usize;
        if let Some(name) = all.items.get(pick).and_then(|pod| pod.metadata.name.as_deref()) {
            self.delete(pods, name, &DeleteParams::default()).await;
        }
    }

    async fn cordon(&self, node: u64, cordon: bool) {
        let nodes = Api::<Node>::all(self.client.clone());
        let patch = Patch::Merge(json!({"spec": {"unschedulable": cordon}}));
        let name = format!("sim-{node}");
        self.insist(|| async { nodes.patch(&name, &PatchParams::default(), &patch).await.map(drop) }).await;
    }

    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn apply<K: Resource<DynamicType = ()> + DeserializeOwned>(
        &self,
        api: Api<K>,
        name: &str,
        mut object: Value,
    ) {
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        object["metadata"] = json!({"name": name});
        let (patch, who) = (Patch::Apply(object), PatchParams::apply("users").force());
        self.insist(|| async { api.patch(name, &who, &patch).await.map(drop) }).await;
    }

    async fn delete<K: DeserializeOwned>(&self, api: Api<K>, name: &str, how: &DeleteParams) {
        self.insist(|| api.delete(name, how)).await;
    }

    /// Tries until there is an answer, whatever it is.
    async fn insist<F: Future<Output = kube::Result<()>>>(&self, ask: impl Fn() -> F) {
        loop {
            match ask().await {
                Ok(()) | Err(kube::Error::Api(_)) => return,
                Err(_) => sleep(Duration::from_secs(1)).await,
            }
        }
    }
}
