//! Which ReplicaSet is the new one; creating it; resizing and removing sets.

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use knarr_client::{
    Api,
    error::{is_already_exists, is_namespace_terminating, is_not_found, message},
    events::EventType,
    object::{controller_of, controller_reference},
};
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::{
    arithmetic::{Fence, actual, wanted},
    conditions::{self, PROGRESSING},
    revision,
    sync::Sync,
};
use crate::{
    error::{Error, Step},
    templates,
};

/// The ReplicaSets of one Deployment: the one of its present template, and all others, oldest first.
#[derive(Clone)]
pub(super) struct Sets {
    pub(super) new: Option<Arc<ReplicaSet>>,
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// Sorts sets into new and old. Of several with the present template the oldest is the new one, so that the
    /// choice never changes.
    pub(super) fn sort(deployment: &Deployment, mut sets: Vec<Arc<ReplicaSet>>) -> Self {
        sets.sort_by(|a, b| age_key(a).cmp(&age_key(b)));
        let present = &deployment.spec.template;
        let new = sets.iter().position(|set| {
            let template = set.spec.template.as_ref();
            template.is_some_and(|template| templates::same(template, present))
        });
        Self { new: new.map(|index| sets.remove(index)), old: sets }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// The replicas asked for of all sets together.
    pub(super) fn total(&self) -> i32 {
        self.all().map(|set| wanted(set)).sum()
    }
}

pub(super) fn age_key(set: &ReplicaSet) -> (Option<jiff::Timestamp>, Option<&String>) {
    (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.as_ref())
}

/// The name of the set of a template, cut so that it stays a valid name.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = 253 - 1 - hash.len();
    let mut end = deployment.len().min(room);
    while !deployment.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash}", &deployment[..end])
}

/// The set that a Deployment's template asks for, with `replicas` pods.
fn make(deployment: &Deployment, replicas: i32, number: i64, fence: &Fence) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = templates::hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(templates::HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut match_labels = spec.selector.match_labels.unwrap_or_default();
    match_labels.insert(templates::HASH_LABEL.to_owned(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(deployment.metadata.name.as_deref().unwrap_or_default(), &hash)),
            namespace: deployment.metadata.namespace.clone(),
            owner_references: Some(vec![controller_reference(deployment)]),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector { match_labels: Some(match_labels), ..spec.selector },
            template: Some(template),
        },
        status: None,
    };
    revision::hand_down(deployment, &mut set, number);
    revision::note_size(&mut set, fence);
    set
}

impl Sync {
    fn sets_api(&self, namespace: Option<&str>) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace.unwrap_or_default())
    }

    /// Sorts the sets, and brings revision and annotations of the new one and its Deployment up to date. Creates
    /// the new one if `create` says so and it is not there.
    pub(super) async fn settle_sets(
        &self,
        deployment: &mut Deployment,
        sets: Vec<Arc<ReplicaSet>>,
        create: bool,
    ) -> Result<Sets, Error> {
        let mut sets = Sets::sort(deployment, sets);
        let number = revision::highest(sets.old.iter().map(|set| &**set)) + 1;
        sets.new = match sets.new.take() {
            Some(new) => Some(self.refresh_new(deployment, new, number).await?),
            None if create => Some(self.create_new(deployment, &sets, number).await?),
            None => None,
        };
        Ok(sets)
    }

    async fn refresh_new(
        &self,
        deployment: &mut Deployment,
        new: Arc<ReplicaSet>,
        number: i64,
    ) -> Result<Arc<ReplicaSet>, Error> {
        let mut copy = (*new).clone();
        let min_ready = deployment.spec.min_ready_seconds.unwrap_or(0);
        let annotated = revision::hand_down(deployment, &mut copy, number);
        let spec = &mut copy.spec;
        let name = new.metadata.name.as_deref().unwrap_or_default();
        if annotated || spec.min_ready_seconds.unwrap_or(0) != min_ready {
            spec.min_ready_seconds = Some(min_ready);
            let api = self.sets_api(new.metadata.namespace.as_deref());
            return api.replace(name, &PostParams::default(), &copy).await.map(Arc::new).step("update", name);
        }
        let revision =
            copy.metadata.annotations.as_ref().and_then(|all| all.get(revision::REVISION).cloned());
        let mut changed = set_revision(deployment, revision.unwrap_or_default());
        let progressing = deployment.status.as_ref().and_then(|status| conditions::get(status, PROGRESSING));
        if self.has_deadline(deployment) && progressing.is_none() {
            let text = format!("Found new replica set {name:?}");
            self.set_progress(deployment, "True", "FoundNewReplicaSet", text);
            changed = true;
        }
        if changed {
            self.write_status(deployment).await?;
        }
        Ok(new)
    }

    async fn create_new(
        &self,
        deployment: &mut Deployment,
        sets: &Sets,
        number: i64,
    ) -> Result<Arc<ReplicaSet>, Error> {
        let fence = Fence::of(deployment)?;
        let recreates = super::sync::strategy(deployment) == "Recreate";
        let replicas = if recreates { fence.replicas } else { fence.new_set(0, sets.total()) };
        let wanted_set = make(deployment, replicas, number, &fence);
        let name = wanted_set.metadata.name.clone().unwrap_or_default();
        let api = self.sets_api(deployment.metadata.namespace.as_deref());
        let (set, made) = match api.create(&PostParams::default(), &wanted_set).await {
            Ok(set) => (Arc::new(set), true),
            Err(error) if is_already_exists(&error) => (self.taken(deployment, &name, error).await?, false),
            Err(error) => return Err(self.creation_failed(deployment, &name, error).await),
        };
        if made && replicas > 0 {
            let text = format!("Scaled up replica set {name} from 0 to {replicas}");
            self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", text);
        }
        let mut changed = set_revision(deployment, number.to_string());
        if made && self.has_deadline(deployment) {
            let text = format!("Created new replica set {name:?}");
            self.set_progress(deployment, "True", "NewReplicaSetCreated", text);
            changed = true;
        }
        if changed {
            self.write_status(deployment).await?;
        }
        Ok(set)
    }

    /// The name is taken: by our own set that the cache does not have yet, or by another template with the same
    /// hash, in which case the next hash is tried next time.
    async fn taken(
        &self,
        deployment: &mut Deployment,
        name: &str,
        error: kube::Error,
    ) -> Result<Arc<ReplicaSet>, Error> {
        let api = self.sets_api(deployment.metadata.namespace.as_deref());
        let set = api.get(name).await.step("get replica set", name)?;
        let ours = controller_of(&set.metadata)
            .is_some_and(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref());
        let template = set.spec.template.as_ref();
        let present = &deployment.spec.template;
        if ours && template.is_some_and(|template| templates::same(template, present)) {
            return Ok(Arc::new(set));
        }
        *deployment.status.get_or_insert_default().collision_count.get_or_insert(0) += 1;
        self.write_status(deployment).await?;
        Err(error).step("create replica set", name)
    }

    async fn creation_failed(&self, deployment: &mut Deployment, name: &str, error: kube::Error) -> Error {
        if !is_namespace_terminating(&error) {
            let text = format!("Failed to create new replica set {name:?}: {}", message(&error));
            if self.has_deadline(deployment) {
                self.set_progress(deployment, "False", conditions::SET_CREATE_ERROR, text.clone());
                if let Err(error) = self.write_status(deployment).await {
                    // The failure to create is what matters, and the next attempt reports it again.
                    tracing::debug!(%error, "cannot report that a replica set was refused");
                }
            }
            self.recorder.event(deployment, EventType::Warning, conditions::SET_CREATE_ERROR, text);
        }
        Error::Request { step: "create replica set", object: name.to_owned(), source: error }
    }

    /// Asks a set for `size` replicas; gives the set as it is then, and whether its size changed. `note` also
    /// updates the noted size of the Deployment when nothing else changes.
    pub(super) async fn resize(
        &self,
        deployment: &Deployment,
        set: &Arc<ReplicaSet>,
        size: i32,
        note: bool,
    ) -> Result<(Arc<ReplicaSet>, bool), Error> {
        let before = wanted(set);
        if before == size && !note {
            return Ok((Arc::clone(set), false));
        }
        let mut copy = (**set).clone();
        let noted = revision::note_size(&mut copy, &Fence::of(deployment)?);
        if before == size && !noted {
            return Ok((Arc::clone(set), false));
        }
        copy.spec.replicas = Some(size);
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let api = self.sets_api(set.metadata.namespace.as_deref());
        let updated = api.replace(name, &PostParams::default(), &copy).await.step("scale", name)?;
        if before != size {
            let direction = if before < size { "up" } else { "down" };
            let text = format!("Scaled {direction} replica set {name} from {before} to {size}");
            self.recorder.event(deployment, EventType::Normal, "ScalingReplicaSet", text);
        }
        Ok((Arc::new(updated), before != size))
    }

    /// Removes the oldest sets that are empty and beyond the history the Deployment keeps.
    pub(super) async fn clean_up(&self, deployment: &Deployment, sets: &Sets) -> Result<(), Error> {
        let limit = deployment.spec.revision_history_limit;
        let Some(limit) = limit.filter(|&limit| limit != i32::MAX) else { return Ok(()) };
        let mut old: Vec<_> =
            sets.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|set| (revision::of(set), age_key(set)));
        for set in old.into_iter().take(surplus).filter(|set| is_empty(set)) {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let this_one = Preconditions { uid: set.metadata.uid.clone(), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
            match self.sets_api(set.metadata.namespace.as_deref()).delete(name, &parameters).await {
                Err(error) if is_not_found(&error) => {}
                other => drop(other.step("delete", name)?),
            }
        }
        Ok(())
    }
}

/// Whether a set has no pods and knows that it is to have none.
fn is_empty(set: &ReplicaSet) -> bool {
    let observed = set.status.as_ref().and_then(|status| status.observed_generation).unwrap_or(0);
    actual(set) == 0 && wanted(set) == 0 && set.metadata.generation.unwrap_or(0) <= observed
}

fn set_revision(deployment: &mut Deployment, number: String) -> bool {
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    if annotations.get(revision::REVISION) == Some(&number) {
        return false;
    }
    annotations.insert(revision::REVISION.to_owned(), number);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_set_carries_hash_owner_and_size() {
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("web".to_owned());
        let fence = Fence { replicas: 3, surge: 1, unavailable: 0 };
        let set = make(&deployment, 2, 7, &fence);
        let spec = &set.spec;
        let hash = &spec.selector.match_labels.as_ref().unwrap()[templates::HASH_LABEL];
        assert_eq!(set.metadata.name.as_deref(), Some(format!("web-{hash}").as_str()));
        assert_eq!(
            spec.template.as_ref().unwrap().metadata.as_ref().unwrap().labels.as_ref(),
            set.metadata.labels.as_ref()
        );
        assert_eq!(
            (revision::of(&set), revision::desired_before(&set), revision::most_before(&set)),
            (Some(7), Some(3), Some(4))
        );
        assert!(Sets::sort(&deployment, vec![Arc::new(set)]).new.is_some());
    }

    #[test]
    fn long_names_stay_valid() {
        assert_eq!(set_name(&"a".repeat(253), "xyz").len(), 253);
    }
}
