//! A claim whose users come and go: their reservations end with them, and with the last its allocation.

use k8s_openapi::api::{
    core::v1::Pod,
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference},
};
use knarr_client::{
    Api, Cached,
    error::{is_conflict, is_not_found},
    object::controller_of,
};
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::{Sync, is_done};
use crate::error::{Error, Step};

/// Keeps an allocated claim until it was given up.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

fn is_pod(user: &ResourceClaimConsumerReference) -> bool {
    user.api_group.as_deref().unwrap_or_default().is_empty() && user.resource == "pods"
}

/// A claim after some of its users have gone: with the last of them the allocation is given up.
fn without(claim: &ResourceClaim, remaining: Vec<ResourceClaimConsumerReference>) -> ResourceClaim {
    let mut updated = claim.clone();
    let held = is_held(claim);
    let status = updated.status.get_or_insert_default();
    if remaining.is_empty() && held {
        status.allocation = None;
    }
    status.reserved_for = Some(remaining).filter(|users| !users.is_empty());
    updated
}

fn is_held(claim: &ResourceClaim) -> bool {
    claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocation.is_some())
}

impl Sync {
    fn api_of(&self, claim: &ResourceClaim) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), claim.namespace())
    }

    pub(super) async fn see_to_claim(&self, claim: &ResourceClaim) -> Result<(), Error> {
        let users = claim.status.as_ref().and_then(|status| status.reserved_for.clone()).unwrap_or_default();
        let mut remaining = Vec::with_capacity(users.len());
        for user in &users {
            if !is_pod(user) || self.uses(claim, user).await? {
                remaining.push(user.clone());
            }
        }
        let unused = remaining.is_empty();
        if remaining.len() < users.len() {
            let written = self.write_status(claim, &without(claim, remaining)).await?;
            if is_held(&written) && !is_allocated(&written) {
                self.let_go(written).await?;
            }
        } else if unused && is_held(claim) && claim.metadata.deletion_timestamp.is_some() {
            let written = match is_allocated(claim) {
                true => self.write_status(claim, &without(claim, Vec::new())).await?,
                false => claim.clone(),
            };
            self.let_go(written).await?;
        }
        if unused { self.delete_if_useless(claim).await } else { Ok(()) }
    }

    /// Whether the pod of a reservation may still use the claim. Before one unknown is taken off, the server is asked:
    /// it may be new.
    async fn uses(
        &self,
        claim: &ResourceClaim,
        user: &ResourceClaimConsumerReference,
    ) -> Result<bool, Error> {
        if let Some(pod) = self.pods.get(claim.namespace(), &user.name) {
            return Ok(pod.uid() == user.uid && !is_done(&pod));
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), claim.namespace());
        let fresh = api.get_opt(&user.name).await.step("get pod", &user.name)?;
        Ok(fresh.is_some_and(|pod| pod.uid() == user.uid))
    }

    async fn write_status(
        &self,
        claim: &ResourceClaim,
        updated: &ResourceClaim,
    ) -> Result<ResourceClaim, Error> {
        let written = self.api_of(claim).replace_status(claim.name(), &PostParams::default(), updated).await;
        written.step("update status of claim", claim.name())
    }

    async fn let_go(&self, mut claim: ResourceClaim) -> Result<(), Error> {
        if let Some(finalizers) = &mut claim.metadata.finalizers {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        match self.api_of(&claim).replace(claim.name(), &PostParams::default(), &claim).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("release claim", claim.name()),
        }
    }

    /// A claim made for a pod that will not run is not waited for until the pod is deleted.
    async fn delete_if_useless(&self, claim: &ResourceClaim) -> Result<(), Error> {
        let Some(owner) = controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod") else {
            return Ok(());
        };
        let Some(pod) = self.pods.get(claim.namespace(), &owner.name) else { return Ok(()) };
        if (pod.uid() == owner.uid && !is_done(&pod)) || claim.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let this_one = Preconditions { uid: claim.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        match self.api_of(claim).delete(claim.name(), &parameters).await {
            Err(error) if is_not_found(&error) || is_conflict(&error) => Ok(()),
            other => other.map(drop).step("delete claim", claim.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaimStatus};

    #[test]
    fn the_last_user_takes_the_allocation_along() {
        let user = |name: &str| ResourceClaimConsumerReference {
            name: name.to_owned(),
            resource: "pods".to_owned(),
            uid: name.to_owned(),
            ..ResourceClaimConsumerReference::default()
        };
        let mut claim = ResourceClaim {
            status: Some(ResourceClaimStatus {
                allocation: Some(AllocationResult::default()),
                reserved_for: Some(vec![user("a"), user("b")]),
                ..ResourceClaimStatus::default()
            }),
            ..ResourceClaim::default()
        };
        claim.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
        assert!(is_allocated(&without(&claim, vec![user("b")])));
        let given_up = without(&claim, Vec::new());
        assert!(!is_allocated(&given_up));
        assert_eq!(given_up.status.unwrap().reserved_for, None);
    }
}
