//! Adopting children that match a selector and nobody owns, releasing those that no longer match.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube::{
    Client, Resource,
    api::{Patch, PatchParams},
    core::{Selector, SelectorExt},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::{
    Api,
    error::{is_invalid, is_not_found},
    object::{controller_of, controller_reference},
};

/// What is to be done about one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is ours and stays ours.
    Keep,
    /// It matches and has no owner.
    Adopt,
    /// It is ours and no longer matches.
    Release,
    /// It is somebody else's, or going away.
    Ignore,
}

/// Decides what a controller does about a child.
pub fn claim(owner: &ObjectMeta, selector: &Selector, child: &ObjectMeta) -> Claim {
    let no_labels = BTreeMap::new();
    let matches = selector.matches(child.labels.as_ref().unwrap_or(&no_labels));
    let owner_goes = owner.deletion_timestamp.is_some();
    match controller_of(child) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_goes => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_goes || !matches || child.deletion_timestamp.is_some() => Claim::Ignore,
        None if owner.namespace != child.namespace => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// A selector that is not valid.
#[derive(Debug, thiserror::Error)]
#[error("label selector is not valid: {0}")]
pub struct SelectorError(#[from] kube::core::ParseExpressionError);

/// Compiles a label selector; an empty one matches everything.
pub fn selector(selector: &LabelSelector) -> Result<Selector, SelectorError> {
    Ok(Selector::try_from(selector.clone())?)
}

/// Why children could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("cannot check that {owner} still exists: {source}")]
    Check { owner: String, source: kube::Error },
    #[error("{owner} has gone or was made anew (uid {uid} was expected)")]
    Gone { owner: String, uid: String },
    #[error("{0} is being deleted and adopts nothing")]
    BeingDeleted(String),
    #[error("cannot adopt {child}: {source}")]
    Adopt { child: String, source: kube::Error },
    #[error("cannot release {child}: {source}")]
    Release { child: String, source: kube::Error },
}

/// Claims children of kind `K` for one owner during one reconcile.
pub struct Claimer<'a, O, K> {
    owner: &'a O,
    selector: &'a Selector,
    owners: Api<O>,
    children: Api<K>,
    may_adopt: OnceCell<()>,
    finalizers: &'a [&'a str],
}

impl<'a, O, K> Claimer<'a, O, K>
where
    O: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    pub fn new(client: &Client, owner: &'a O, selector: &'a Selector) -> Self {
        let namespace = owner.meta().namespace.as_deref().unwrap_or_default();
        Self {
            owner,
            selector,
            owners: Api::namespaced(client.clone(), namespace),
            children: Api::namespaced(client.clone(), namespace),
            may_adopt: OnceCell::new(),
            finalizers: &[],
        }
    }

    /// Also puts these finalizers on adopted children.
    pub fn with_finalizers(mut self, finalizers: &'a [&'a str]) -> Self {
        self.finalizers = finalizers;
        self
    }

    /// The children that are the owner's after adopting and releasing. All are tried; the first error is given.
    pub async fn claim_all(&self, candidates: Vec<Arc<K>>) -> Result<Vec<Arc<K>>, ClaimError> {
        let (mut claimed, mut failure) = (Vec::with_capacity(candidates.len()), None);
        for child in candidates {
            match self.claim_one(child).await {
                Ok(kept) => claimed.extend(kept),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(claimed), Err)
    }

    async fn claim_one(&self, child: Arc<K>) -> Result<Option<Arc<K>>, ClaimError> {
        match claim(self.owner.meta(), self.selector, child.meta()) {
            Claim::Keep => Ok(Some(child)),
            Claim::Ignore => Ok(None),
            Claim::Adopt => self.adopt(child).await,
            Claim::Release => self.release(&child).await.map(|()| None),
        }
    }

    /// Asks the server, not the cache, whether the owner may still adopt: a deleted owner must not.
    async fn check_owner(&self) -> Result<(), ClaimError> {
        let name = self.owner.meta().name.clone().unwrap_or_default();
        let fresh = match self.owners.get_opt(&name).await {
            Ok(fresh) => fresh,
            Err(source) => return Err(ClaimError::Check { owner: name, source }),
        };
        match fresh {
            Some(fresh) if fresh.meta().uid == self.owner.meta().uid => match fresh.meta().deletion_timestamp
            {
                Some(_) => Err(ClaimError::BeingDeleted(name)),
                None => Ok(()),
            },
            _ => {
                Err(ClaimError::Gone { owner: name, uid: self.owner.meta().uid.clone().unwrap_or_default() })
            }
        }
    }

    async fn adopt(&self, child: Arc<K>) -> Result<Option<Arc<K>>, ClaimError> {
        self.may_adopt.get_or_try_init(|| self.check_owner()).await?;
        let mut metadata = json!({
            "ownerReferences": [controller_reference(self.owner)],
            "uid": child.meta().uid,
        });
        if !self.finalizers.is_empty() {
            metadata["finalizers"] = json!(self.finalizers);
        }
        match self.patch(&child, json!({ "metadata": metadata })).await {
            Ok(adopted) => Ok(Some(Arc::new(adopted))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(source) => Err(ClaimError::Adopt { child: name_of(&*child), source }),
        }
    }

    async fn release(&self, child: &K) -> Result<(), ClaimError> {
        let mut metadata = json!({
            "ownerReferences": [{ "$patch": "delete", "uid": self.owner.meta().uid }],
            "uid": child.meta().uid,
        });
        if !self.finalizers.is_empty() {
            metadata["$deleteFromPrimitiveList/finalizers"] = json!(self.finalizers);
        }
        match self.patch(child, json!({ "metadata": metadata })).await {
            Ok(_) => Ok(()),
            // Gone, or not the child we meant: either way it is not ours any more.
            Err(error) if is_not_found(&error) || is_invalid(&error) => Ok(()),
            Err(source) => Err(ClaimError::Release { child: name_of(child), source }),
        }
    }

    async fn patch(&self, child: &K, patch: serde_json::Value) -> Result<K, kube::Error> {
        self.children.patch(&name_of(child), &PatchParams::default(), &Patch::Strategic(patch)).await
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

/// Runs `count` creations in batches that double from one, so that a quota or a refusing webhook is met once and
/// not `count` times. Stops after the batch in which one failed.
///
/// Gives how many succeeded and were skipped, and the first error.
pub async fn slow_start<E, F: Future<Output = Result<(), E>>>(
    count: usize,
    create: impl Fn(usize) -> F,
) -> (usize, usize, Option<E>) {
    let (mut done, mut batch, mut succeeded) = (0, 1, 0);
    while done < count {
        let size = batch.min(count - done);
        let results = futures::future::join_all((done..done + size).map(&create)).await;
        done += size;
        batch = size * 2;
        let mut failure = None;
        for result in results {
            match result {
                Ok(()) => succeeded += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        if failure.is_some() {
            return (succeeded, count - done, failure);
        }
    }
    (succeeded, 0, None)
}

/// The owner reference in `references` that has this uid.
pub fn reference_to<'a>(references: &'a [OwnerReference], uid: &str) -> Option<&'a OwnerReference> {
    references.iter().find(|reference| reference.uid == uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn meta(uid: &str, label: &str, owner: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            labels: Some([("app".to_owned(), label.to_owned())].into()),
            owner_references: owner.map(|uid| {
                vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]
            }),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn claims_follow_labels_and_owner() {
        let owner = meta("o", "", None);
        let web: Selector = selector(&LabelSelector {
            match_labels: Some([("app".into(), "web".into())].into()),
            ..Default::default()
        })
        .unwrap();
        for (label, owned_by, expected) in [
            ("web", Some("o"), Claim::Keep),
            ("web", None, Claim::Adopt),
            ("web", Some("x"), Claim::Ignore),
            ("db", Some("o"), Claim::Release),
            ("db", None, Claim::Ignore),
        ] {
            assert_eq!(claim(&owner, &web, &meta("c", label, owned_by)), expected, "{label} {owned_by:?}");
        }
        let mut going = meta("c", "web", None);
        going.deletion_timestamp = Some(jiff::Timestamp::UNIX_EPOCH.into());
        assert_eq!(claim(&owner, &web, &going), Claim::Ignore);
        let mut leaving = owner.clone();
        leaving.deletion_timestamp = going.deletion_timestamp.clone();
        assert_eq!(claim(&leaving, &web, &meta("c", "web", None)), Claim::Ignore);
        assert_eq!(claim(&leaving, &web, &meta("c", "web", Some("o"))), Claim::Keep);
    }

    #[tokio::test]
    async fn batches_double_and_stop_at_the_first_failure() {
        let seen = RefCell::new(Vec::new());
        let (succeeded, skipped, failure) = slow_start(20, |i| {
            seen.borrow_mut().push(i);
            async move { if i == 5 { Err(i) } else { Ok(()) } }
        })
        .await;
        assert_eq!((succeeded, skipped, failure), (6, 13, Some(5)));
        assert_eq!(seen.borrow().len(), 7);
        assert_eq!(slow_start::<(), _>(0, |_| async { Ok(()) }).await, (0, 0, None));
    }
}
