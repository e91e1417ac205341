//! Carrying out a plan: volumes and claims are written, and then it waits for the volume controller.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use knarr_client::{Client, SharedInformer};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::claims::{Claim, annotation};
use super::{ANN_SELECTED_NODE, Plan, is_fully_bound, key_of};

const ANN_BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

#[derive(Debug, thiserror::Error)]
pub enum BindVolumesError {
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("binding volumes: context deadline exceeded")]
    Timeout,
    #[error("binding volumes: provisioning failed for PVC {0:?}")]
    Provisioning(String),
    #[error("binding volumes: persistentvolumeclaim {0:?} not found")]
    Gone(String),
}

/// Shared by the tasks that bind.
pub struct VolumeBinder {
    pub client: Client,
    pub claims: SharedInformer<PersistentVolumeClaim>,
    /// Changes whenever a claim does.
    pub changed: watch::Receiver<u64>,
}

impl VolumeBinder {
    /// Returns when all claims of the plan are bound.
    pub async fn carry_out(
        &self,
        plan: &Plan,
        node: &str,
        timeout: Duration,
    ) -> Result<(), BindVolumesError> {
        for (volume, claim) in &plan.bindings {
            self.reserve(volume, claim).await?;
        }
        let mut since = Vec::new();
        for claim in &plan.provisions {
            since.push(self.select_node(claim, node).await?);
        }
        tokio::time::timeout(timeout, self.all_bound(plan, node, &since))
            .await
            .map_err(|_| BindVolumesError::Timeout)?
    }

    async fn reserve(&self, volume: &PersistentVolume, claim: &Claim) -> Result<(), kube::Error> {
        let meta = &claim.metadata;
        let reference = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        });
        let was_prebound = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        let mut patch = json!({
            "metadata": {"resourceVersion": volume.metadata.resource_version},
            "spec": {"claimRef": reference},
        });
        if !was_prebound {
            patch["metadata"]["annotations"] = json!({ANN_BOUND_BY_CONTROLLER: "yes"});
        }
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        self.patch(&format!("/api/v1/persistentvolumes/{name}"), &patch).await.map(drop)
    }

    /// Gives the claim's new resource version.
    async fn select_node(&self, claim: &Claim, node: &str) -> Result<u64, kube::Error> {
        let (namespace, name) = key_of(claim);
        let patch = json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "annotations": {ANN_SELECTED_NODE: node},
        }});
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
        let written = self.patch(&path, &patch).await?;
        Ok(version(written["metadata"]["resourceVersion"].as_str()))
    }

    async fn all_bound(&self, plan: &Plan, node: &str, since: &[u64]) -> Result<(), BindVolumesError> {
        let mut changed = self.changed.clone();
        loop {
            changed.mark_unchanged();
            if self.are_bound(plan, node, since)? {
                return Ok(());
            }
            // Fails only when the scheduler has stopped, and then nobody waits for the answer.
            changed.changed().await.map_err(|_| BindVolumesError::Timeout)?;
        }
    }

    fn are_bound(&self, plan: &Plan, node: &str, since: &[u64]) -> Result<bool, BindVolumesError> {
        let mut all = true;
        for (_, claim) in &plan.bindings {
            let current = self.current(claim)?;
            all &= is_fully_bound(&current);
        }
        for (claim, since) in plan.provisions.iter().zip(since) {
            let current = self.current(claim)?;
            if version(current.metadata.resource_version.as_deref()) < *since {
                all = false;
                continue;
            }
            // The provisioner takes it back when it cannot make a volume there.
            if annotation(&current, ANN_SELECTED_NODE) != Some(node) {
                return Err(BindVolumesError::Provisioning(key_of(claim).1));
            }
            all &= is_fully_bound(&current);
        }
        Ok(all)
    }

    fn current(&self, claim: &Claim) -> Result<Arc<PersistentVolumeClaim>, BindVolumesError> {
        let (namespace, name) = key_of(claim);
        self.claims.get(&namespace, &name).ok_or(BindVolumesError::Gone(name))
    }

    async fn patch(&self, path: &str, patch: &Value) -> Result<Value, kube::Error> {
        let request = Request::builder().method(Method::PATCH).uri(path);
        let request = request.header("content-type", "application/merge-patch+json");
        let request = request.body(patch.to_string().into_bytes()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }
}

/// Resource versions are numbers in this API server; an older or unknown one counts as oldest.
fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
