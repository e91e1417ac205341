//! Claims of a pod that goes to a node: their devices are written, and the pod as their user.

use std::sync::Arc;

use http::Method;
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim, ResourceClaimConsumerReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_client::{Api, Cached};
use kube::api::PostParams;
use serde_json::json;

use super::Binder;
use crate::devices::{Decided, uid_of};
use crate::object::Pod;

/// Keeps a claim whose devices are in use.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// How often a write is tried when others write the same claim.
const ATTEMPTS: usize = 5;

/// The claims of a pod that is being bound.
#[derive(Debug, Default)]
pub struct BoundClaims {
    pub all: Vec<Arc<ResourceClaim>>,
    /// Those that get their devices with this binding.
    pub decided: Vec<Decided>,
    /// As they were last written.
    pub written: Vec<Arc<ResourceClaim>>,
}

#[derive(Debug, thiserror::Error)]
pub enum BindClaimError {
    #[error("get updated claim {0} after conflict: {1}")]
    Get(String, #[source] kube::Error),
    #[error("claim {0} got deleted in the meantime")]
    Deleted(String),
    #[error("claim {0} got allocated elsewhere in the meantime")]
    Allocated(String),
    #[error("claim {0} got deallocated elsewhere in the meantime")]
    Deallocated(String),
    #[error("add finalizer to claim {0}: {1}")]
    Finalizer(String, #[source] kube::Error),
    #[error("add allocation and reservation to claim {0}: {1}")]
    Allocate(String, #[source] kube::Error),
    #[error("add reservation to claim {0}: {1}")]
    Reserve(String, #[source] kube::Error),
}

impl BindClaimError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Finalizer(_, error) | Self::Allocate(_, error) | Self::Reserve(_, error) => {
                matches!(error, kube::Error::Api(status) if status.code == 409)
            }
            _ => false,
        }
    }
}

fn name_of(claim: &ResourceClaim) -> String {
    format!("{}/{}", claim.namespace(), claim.name())
}

fn is_used_by(claim: &ResourceClaim, pod: &Pod) -> bool {
    let users = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
    users.into_iter().any(|user| user.uid == *pod.metadata.uid)
}

impl Binder {
    /// Writes what was decided, and the pod as a user. What is written is noted, be the end good or bad.
    pub async fn bind_claims(&self, pod: &Pod, claims: &mut BoundClaims) -> Result<(), BindClaimError> {
        for claim in claims.all.iter().filter(|claim| !is_used_by(claim, pod)) {
            let decided = claims.decided.iter().find(|(decided, _)| uid_of(decided) == uid_of(claim));
            let allocation = decided.map(|(_, allocation)| &**allocation);
            claims.written.push(Arc::new(self.bind_claim(pod, claim, allocation).await?));
        }
        Ok(())
    }

    async fn bind_claim(
        &self,
        pod: &Pod,
        claim: &ResourceClaim,
        allocation: Option<&AllocationResult>,
    ) -> Result<ResourceClaim, BindClaimError> {
        let api = Api::<ResourceClaim>::namespaced(self.client.clone(), &pod.metadata.namespace);
        let mut current = claim.clone();
        for _ in 1..ATTEMPTS {
            match self.write_claim(&api, current, pod, allocation).await {
                Err(error) if error.is_conflict() => {}
                result => return result,
            }
            let got = api.get(claim.name()).await;
            current = got.map_err(|error| BindClaimError::Get(name_of(claim), error))?;
        }
        self.write_claim(&api, current, pod, allocation).await
    }

    async fn write_claim(
        &self,
        api: &Api<ResourceClaim>,
        mut claim: ResourceClaim,
        pod: &Pod,
        allocation: Option<&AllocationResult>,
    ) -> Result<ResourceClaim, BindClaimError> {
        let (name, full_name) = (claim.name().to_owned(), name_of(&claim));
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(BindClaimError::Deleted(full_name));
        }
        if allocation.is_some() {
            if claim.status.as_ref().is_some_and(|status| status.allocation.is_some()) {
                return Err(BindClaimError::Allocated(full_name));
            }
            let finalizers = claim.metadata.finalizers.get_or_insert_default();
            if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                finalizers.push(FINALIZER.to_owned());
                let added = api.replace(&name, &PostParams::default(), &claim).await;
                claim = added.map_err(|error| BindClaimError::Finalizer(full_name.clone(), error))?;
            }
            claim.status.get_or_insert_default().allocation = allocation.cloned();
        }
        let status = claim.status.get_or_insert_default();
        let Some(allocated) = &mut status.allocation else {
            return Err(BindClaimError::Deallocated(full_name));
        };
        allocated.allocation_timestamp.get_or_insert_with(|| Time(self.clock.now()));
        status.reserved_for.get_or_insert_default().push(ResourceClaimConsumerReference {
            api_group: None,
            resource: "pods".to_owned(),
            name: pod.metadata.name.to_string(),
            uid: pod.metadata.uid.to_string(),
        });
        let written = api.replace_status(&name, &PostParams::default(), &claim).await;
        written.map_err(|error| match allocation {
            Some(_) => BindClaimError::Allocate(full_name, error),
            None => BindClaimError::Reserve(full_name, error),
        })
    }

    /// The pod is not bound after all: takes it from the users of its claims. Their devices they keep.
    pub async fn unreserve_claims(&self, pod: &Pod, claims: &mut BoundClaims) {
        for claim in &mut claims.written {
            let user = json!({"$patch": "delete", "uid": &*pod.metadata.uid});
            let patch = json!({"metadata": {"uid": uid_of(claim)}, "status": {"reservedFor": [user]}});
            let (namespace, name) = (claim.namespace().to_owned(), claim.name().to_owned());
            let path =
                format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}/status");
            let kind = "application/strategic-merge-patch+json";
            let written = self.send(Method::PATCH, kind, &path, &patch).await;
            match written.map(serde_json::from_value::<ResourceClaim>) {
                Ok(Ok(written)) => *claim = Arc::new(written),
                Ok(Err(error)) => tracing::warn!(%namespace, %name, %error, "unreadable resource claim"),
                // The next attempt finds it reserved, and goes on from there.
                Err(error) => tracing::warn!(%namespace, %name, %error, "could not unreserve the claim"),
            }
        }
    }

    /// Takes a claim's devices away, so that it may get others.
    pub async fn deallocate(&self, claim: &ResourceClaim) -> Result<(), kube::Error> {
        let mut claim = claim.clone();
        if let Some(status) = &mut claim.status {
            status.reserved_for = None;
            status.allocation = None;
            status.devices = None;
        }
        let api = Api::<ResourceClaim>::namespaced(self.client.clone(), claim.namespace());
        api.replace_status(claim.name(), &PostParams::default(), &claim).await.map(drop)
    }
}
