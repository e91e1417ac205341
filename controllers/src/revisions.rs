//! The history of a pod template as ControllerRevisions, for the kinds that keep one.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        runtime::RawExtension,
    },
};
use knarr_client::{
    Api, Cached, Client, SharedInformer,
    error::{is_already_exists, is_not_found},
    object::{controller_of, controller_reference},
    ownership::{Claimer, selector},
};
use kube::api::{DeleteParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    error::{Error, Step},
    pods::control::Owner,
    templates,
};

/// The label that tells which revision a pod is of.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
pub(crate) const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// A kind with a pod template whose history is kept.
pub(crate) trait Revisioned: Owner + Clone + Debug + DeserializeOwned {
    /// Where its revisions carry the short name of their template.
    const HASH_LABEL: &'static str = HASH_LABEL;

    fn template(&self) -> &PodTemplateSpec;
    fn selector(&self) -> &LabelSelector;
    fn history_limit(&self) -> Option<i32>;
}

/// The revisions of one owner, oldest first, and which of them the present template is.
pub(crate) struct History {
    pub(crate) all: Vec<Arc<ControllerRevision>>,
    pub(crate) update: Arc<ControllerRevision>,
    /// How often a name was taken by another template's revision.
    pub(crate) collisions: i32,
}

/// The short name of a template that a revision's label carries.
pub(crate) fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get(REVISION_LABEL).or_else(|| labels.get(HASH_LABEL)));
    hash.map_or("", String::as_str)
}

/// The template as it was in a revision; `None` if the revision was not written by us.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// What a revision keeps of its owner: a patch that restores the template, which is what `kubectl rollout undo`
/// sends.
fn data<O: Revisioned>(owner: &O) -> Value {
    let mut template = json!(owner.template());
    template["$patch"] = "replace".into();
    json!({ "spec": { "template": template } })
}

fn revision_name(owner: &str, hash: &str) -> String {
    let room = 253 - 1 - hash.len();
    let mut end = owner.len().min(room);
    while !owner.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{hash}", &owner[..end])
}

fn make<O: Revisioned>(owner: &O, number: i64, collisions: i32) -> ControllerRevision {
    let data = data(owner);
    let hash = templates::hash(&data, Some(collisions));
    let mut labels =
        owner.template().metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    labels.insert(O::HASH_LABEL.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(revision_name(owner.meta().name.as_deref().unwrap_or_default(), &hash)),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        revision: Some(number),
        data: RawExtension(data),
    }
}

/// Writes the history of owners.
pub(crate) struct Revisions {
    pub(crate) client: Client,
    pub(crate) known: SharedInformer<ControllerRevision>,
}

impl Revisions {
    fn api<O: Revisioned>(&self, owner: &O) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), owner.meta().namespace.as_deref().unwrap_or_default())
    }

    /// The owner's revisions, those adopted that nobody owns, and one for the present template.
    pub(crate) async fn history<O: Revisioned>(&self, owner: &O, collisions: i32) -> Result<History, Error> {
        let mut all = self.claimed(owner).await?;
        all.sort_by_key(|revision| (revision.revision, revision.metadata.creation_timestamp.clone()));
        let next = all.last().and_then(|revision| revision.revision).unwrap_or(0) + 1;
        let wanted = make(owner, next, collisions);
        let equal = all.iter().rposition(|revision| revision.data == wanted.data);
        let (update, collisions) = match equal {
            Some(index) if index + 1 == all.len() => (Arc::clone(&all[index]), collisions),
            Some(index) => {
                let mut again = (*all.remove(index)).clone();
                again.revision = Some(next);
                let name = again.name().to_owned();
                let updated = self.api(owner).replace(&name, &PostParams::default(), &again).await;
                let updated = Arc::new(updated.step("update revision", &name)?);
                all.push(Arc::clone(&updated));
                (updated, collisions)
            }
            None => {
                let (created, collisions) = self.create(owner, next, collisions).await?;
                all.push(Arc::clone(&created));
                (created, collisions)
            }
        };
        Ok(History { all, update, collisions })
    }

    async fn claimed<O: Revisioned>(&self, owner: &O) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let namespace = owner.meta().namespace.as_deref().unwrap_or_default();
        let ours_or_free = |revision: &Arc<ControllerRevision>| {
            controller_of(&revision.metadata)
                .is_none_or(|reference| Some(&reference.uid) == owner.meta().uid.as_ref())
        };
        let candidates: Vec<_> =
            self.known.in_namespace(namespace).into_iter().filter(ours_or_free).collect();
        if owner.meta().deletion_timestamp.is_some() {
            return Ok(candidates
                .into_iter()
                .filter(|revision| controller_of(&revision.metadata).is_some())
                .collect());
        }
        let selector = selector(owner.selector())?;
        Ok(Claimer::new(&self.client, owner, &selector).claim_all(candidates).await?)
    }

    /// Creates a revision, under another name while the name is taken by another template's.
    async fn create<O: Revisioned>(
        &self,
        owner: &O,
        number: i64,
        mut collisions: i32,
    ) -> Result<(Arc<ControllerRevision>, i32), Error> {
        let api = self.api(owner);
        loop {
            let wanted = make(owner, number, collisions);
            let name = wanted.name();
            match api.create(&PostParams::default(), &wanted).await {
                Err(error) if is_already_exists(&error) => {
                    let existing = api.get(name).await.step("get revision", name)?;
                    if existing.data == wanted.data {
                        return Ok((Arc::new(existing), collisions));
                    }
                    collisions += 1;
                }
                created => return Ok((Arc::new(created.step("create revision", name)?), collisions)),
            }
        }
    }

    /// Removes the oldest revisions that no pod is of, beyond what the owner wants kept.
    pub(crate) async fn truncate<O: Revisioned>(
        &self,
        owner: &O,
        history: &History,
        is_live: impl Fn(&ControllerRevision) -> bool,
    ) -> Result<(), Error> {
        let Ok(limit) = usize::try_from(owner.history_limit().unwrap_or(10)) else { return Ok(()) };
        let dead = history
            .all
            .iter()
            .filter(|revision| !is_live(revision) && revision.name() != history.update.name());
        let dead: Vec<_> = dead.collect();
        for revision in dead.iter().take(dead.len().saturating_sub(limit)) {
            match self.api(owner).delete(revision.name(), &DeleteParams::default()).await {
                Err(error) if is_not_found(&error) => {}
                other => drop(other.step("delete revision", revision.name())?),
            }
        }
        Ok(())
    }
}
