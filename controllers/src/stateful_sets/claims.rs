//! The storage of a StatefulSet's pods, and to whom it belongs.

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use knarr_client::{
    Api, Cached,
    error::{is_already_exists, is_conflict, is_not_found, message},
    events::EventType,
    object::controller_reference,
};
use kube::api::PostParams;

use super::{identity, sync::Sync};
use crate::error::{Error, Step};

/// What happens to claims when their set is deleted, and when their pod is scaled away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retention {
    delete_with_set: bool,
    delete_when_scaled: bool,
}

fn retention(set: &StatefulSet) -> Retention {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |value: Option<&String>| value.is_some_and(|value| value == "Delete");
    Retention {
        delete_with_set: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
        delete_when_scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
    }
}

/// The owners a claim should have; `None` if they are right or somebody else's claim is not ours to touch.
pub(super) fn owners(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let present = claim.metadata.owner_references.clone().unwrap_or_default();
    let names = |reference: &OwnerReference| {
        (reference.kind == "StatefulSet" && reference.name == set.name())
            || (reference.kind == "Pod" && reference.name == pod.name())
    };
    let is_ours = |reference: &OwnerReference| reference.uid == set.uid() || reference.uid == pod.uid();
    // Named after us but of a predecessor, or somebody else's: left to garbage collection and to them.
    if present
        .iter()
        .any(|reference| !is_ours(reference) && (names(reference) || reference.controller == Some(true)))
    {
        return None;
    }
    let Retention { delete_with_set, delete_when_scaled } = retention(set);
    let scaled_away = identity::ordinal(set, pod).is_some_and(|ordinal| !identity::is_in_range(set, ordinal));
    let by_pod = delete_when_scaled && scaled_away;
    let by_set = delete_with_set && !by_pod;
    let mut wanted: Vec<_> = present.iter().filter(|reference| !is_ours(reference)).cloned().collect();
    if by_set {
        wanted.push(controller_reference(set));
    }
    if by_pod {
        wanted.push(controller_reference(pod));
    }
    (wanted != present).then_some(wanted)
}

impl Sync {
    fn claims_api(&self, set: &StatefulSet) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), set.namespace())
    }

    /// Makes the claims a pod needs that are not there yet.
    pub(super) async fn make_claims(&self, set: &StatefulSet, ordinal: usize) -> Result<(), Error> {
        for claim in identity::claims(set, ordinal) {
            let (name, pod) = (claim.name(), identity::pod_name(set, ordinal));
            if let Some(known) = self.claims.get(set.namespace(), name) {
                if known.metadata.deletion_timestamp.is_some() {
                    return Err(Error::Unusable(format!("pvc {name} is being deleted")));
                }
                continue;
            }
            match self.claims_api(set).create(&PostParams::default(), &claim).await {
                Ok(_) => {
                    let text = format!("Create Claim {name} Pod {pod} in StatefulSet {} success", set.name());
                    self.recorder.event(set, EventType::Normal, "SuccessfulCreate", text);
                }
                Err(error) if is_already_exists(&error) => {}
                Err(error) => {
                    let reason = message(&error);
                    let text = format!(
                        "Create Claim {name} for Pod {pod} in StatefulSet {} failed error: {reason}",
                        set.name()
                    );
                    self.recorder.event(set, EventType::Warning, "FailedCreate", text);
                    return Err(error).step("create claim", name);
                }
            }
        }
        Ok(())
    }

    /// Gives the claims of a pod the owners that its set's retention policy asks for.
    pub(super) async fn settle_owners(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let Some(ordinal) = identity::ordinal(set, pod) else { return Ok(()) };
        for template in identity::claim_templates(set) {
            let name = identity::claim_name(set, template, ordinal);
            let Some(known) = self.claims.get(set.namespace(), &name) else { continue };
            let Some(wanted) = owners(set, pod, &known) else { continue };
            let mut claim = (*known).clone();
            claim.metadata.owner_references = Some(wanted);
            match self.claims_api(set).replace(&name, &PostParams::default(), &claim).await {
                Err(error) if is_not_found(&error) => {}
                Err(error) if is_conflict(&error) => return Err(error).step("update claim", &name),
                other => drop(other.step("update claim", &name)?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;
    use k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy;

    #[test]
    fn claims_belong_to_whom_the_policy_says() {
        let mut set = StatefulSet::default();
        set.metadata.name = Some("db".into());
        set.metadata.uid = Some("set".into());
        set.spec.replicas = Some(1);
        let (kept, scaled) = (pod("db-0", "n", "Running", None), pod("db-1", "n", "Running", None));
        let claim = PersistentVolumeClaim::default();
        let kinds = |set: &StatefulSet, pod: &Pod, claim: &PersistentVolumeClaim| {
            owners(set, pod, claim)
                .map(|owners| owners.into_iter().map(|owner| owner.kind).collect::<Vec<_>>())
        };
        assert_eq!(kinds(&set, &kept, &claim), None);
        let mut policy = |deleted: &str, scaled: &str| {
            set.spec.persistent_volume_claim_retention_policy =
                Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(deleted.to_owned()),
                    when_scaled: Some(scaled.to_owned()),
                });
            set.clone()
        };
        let both = policy("Delete", "Delete");
        assert_eq!(kinds(&both, &kept, &claim), Some(vec!["StatefulSet".to_owned()]));
        assert_eq!(kinds(&both, &scaled, &claim), Some(vec!["Pod".to_owned()]));
        let owned = PersistentVolumeClaim {
            metadata: kube::api::ObjectMeta {
                owner_references: owners(&both, &kept, &claim),
                ..Default::default()
            },
            ..claim.clone()
        };
        assert_eq!(kinds(&both, &kept, &owned), None);
        assert_eq!(kinds(&policy("Retain", "Retain"), &kept, &owned), Some(vec![]));
    }
}
