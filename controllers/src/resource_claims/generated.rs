//! Making the claims that pods want made from templates, and reserving what pods already run with.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodResourceClaim},
        resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use knarr_client::{Api, Cached, events::EventType};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{POD_CLAIM, Sync, asked, is_made_for, is_settled, named};
use crate::{
    error::{Error, Step},
    pods,
};

/// Who writes the names of the claims into the pod's status.
const MANAGER: &str = "ResourceClaimController";
/// A name of 63 characters with room for what is appended to it.
const LONGEST_PREFIX: usize = 57;
/// No claim has more users.
const MOST_USERS: usize = 256;

/// The beginning of a generated claim's name: pod and claim, both shortened alike if they are long.
fn prefix(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_PREFIX {
        return whole;
    }
    let part = |name: &str| name[..name.len() * LONGEST_PREFIX / whole.len()].to_owned();
    format!("{}-{}", part(pod), part(claim))
}

fn make(pod: &Pod, asked: &PodResourceClaim, template: &ResourceClaimTemplate) -> ResourceClaim {
    let wanted = template.spec.clone().unwrap_or_default();
    let own = wanted.metadata.unwrap_or_default();
    let mut annotations = own.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), asked.name.clone());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(prefix(pod.name(), &asked.name)),
            namespace: pod.metadata.namespace.clone(),
            labels: own.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.name().to_owned(),
                uid: pod.uid().to_owned(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: wanted.spec,
        status: None,
    }
}

impl Sync {
    fn claims_api(&self, namespace: &str) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(super) async fn see_to_pod(&self, pod: &Pod) -> Result<(), Error> {
        let mut made = BTreeMap::new();
        for asked in asked(pod) {
            match self.ensure(pod, asked).await {
                Ok(Some(name)) => drop(made.insert(asked.name.clone(), name)),
                Ok(None) => {}
                Err(error) => {
                    let text = format!("PodResourceClaim {}: {error}", asked.name);
                    self.recorder.event(pod, EventType::Warning, "FailedResourceClaimCreation", text);
                    return Err(error);
                }
            }
        }
        if !made.is_empty() {
            self.note(pod, &made).await?;
        }
        // The scheduler reserves for pods that it places; those that name their node pass it by.
        if pods::node_name(pod).is_empty() { Ok(()) } else { self.reserve(pod).await }
    }

    /// The name of a claim that was made for the pod and that its status does not have yet.
    async fn ensure(&self, pod: &Pod, asked: &PodResourceClaim) -> Result<Option<String>, Error> {
        let Some(template) = &asked.resource_claim_template_name else { return Ok(None) };
        let known = named(pod, asked).and_then(|name| self.claims.get(pod.namespace(), name));
        let is_there = known.is_some_and(|claim| is_made_for(&claim, pod));
        if is_there || (named(pod, asked).is_none() && is_settled(pod, asked)) {
            return Ok(None);
        }
        // Made before, and the status could not be written then.
        if let Some(orphan) = self.made_before(pod, asked) {
            return Ok(Some(orphan.name().to_owned()));
        }
        let template = self.templates.get(pod.namespace(), template).ok_or_else(|| {
            let missing = format!("resourceclaimtemplate.resource.k8s.io {template:?} not found");
            Error::Unusable(format!("resource claim template {template:?}: {missing}"))
        })?;
        let claim = make(pod, asked, &template);
        let made = self.claims_api(pod.namespace()).create(&PostParams::default(), &claim).await;
        let made =
            made.step("create ResourceClaim", claim.metadata.generate_name.as_deref().unwrap_or_default())?;
        Ok(Some(made.name().to_owned()))
    }

    fn made_before(&self, pod: &Pod, asked: &PodResourceClaim) -> Option<Arc<ResourceClaim>> {
        let claims = self.claims.in_namespace(pod.namespace());
        claims.into_iter().find(|claim| {
            let annotations = claim.metadata.annotations.as_ref();
            let of = annotations.and_then(|annotations| annotations.get(POD_CLAIM));
            is_made_for(claim, pod) && of == Some(&asked.name) && claim.metadata.deletion_timestamp.is_none()
        })
    }

    async fn note(&self, pod: &Pod, made: &BTreeMap<String, String>) -> Result<(), Error> {
        let statuses: Vec<_> =
            made.iter().map(|(name, claim)| json!({ "name": name, "resourceClaimName": claim })).collect();
        let applied = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid() },
            "status": { "resourceClaimStatuses": statuses },
        });
        let api = Api::<Pod>::namespaced(self.client.clone(), pod.namespace());
        let written =
            api.patch_status(pod.name(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(applied)).await;
        written.map(drop).step("update resource claims of pod", pod.name())
    }

    async fn reserve(&self, pod: &Pod) -> Result<(), Error> {
        for asked in asked(pod) {
            let Some(claim) = named(pod, asked).and_then(|name| self.claims.get(pod.namespace(), name))
            else {
                continue;
            };
            if asked.resource_claim_name.is_none() && !is_made_for(&claim, pod) {
                let name = claim.name();
                return Err(Error::Unusable(format!(
                    "ResourceClaim {name} was not created for pod {}",
                    pod.name()
                )));
            }
            let status = claim.status.clone().unwrap_or_default();
            let users = status.reserved_for.unwrap_or_default();
            let reserved = users.iter().any(|user| user.uid == pod.uid());
            if status.allocation.is_none() || reserved || users.len() >= MOST_USERS {
                continue;
            }
            let mut updated = (*claim).clone();
            let user = ResourceClaimConsumerReference {
                api_group: None,
                name: pod.name().to_owned(),
                resource: "pods".to_owned(),
                uid: pod.uid().to_owned(),
            };
            updated.status.get_or_insert_default().reserved_for.get_or_insert_default().push(user);
            let api = self.claims_api(pod.namespace());
            let written = api.replace_status(claim.name(), &PostParams::default(), &updated).await;
            drop(written.step("reserve claim", claim.name())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_a_part_of_both_pod_and_claim() {
        assert_eq!(prefix("web", "gpu"), "web-gpu-");
        let long = prefix(&"p".repeat(60), &"c".repeat(20));
        assert!(long.len() <= LONGEST_PREFIX && long.contains("p-c"), "{long}");
    }
}
