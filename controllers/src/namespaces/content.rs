//! Deleting everything in a namespace.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::{
    Api, Client,
    object::{Cached, Skeleton},
};
use kube::api::ListParams;
use serde::Deserialize;

use crate::{
    discovery::{ResourceInfo, Resources},
    error::{Error, Step},
    pods,
};

/// How long content that only waits for its finalizers is given until the next look.
const FINALIZERS_TAKE: Duration = Duration::from_secs(15);

/// What is left of a namespace's content after an attempt to delete it.
#[derive(Default)]
pub(super) struct Emptied {
    /// `None` if nothing is left, else how long the rest may take.
    pub(super) estimate: Option<Duration>,
    /// Groups that could not be asked what they have.
    pub(super) undiscovered: Option<String>,
    /// Pods are still there and nothing else was touched yet.
    pub(super) pods_first: bool,
    pub(super) errors: Vec<Error>,
    /// `resource.group` and how many are left.
    pub(super) remaining: BTreeMap<String, usize>,
    /// Finalizer and how many wait for it.
    pub(super) finalizers: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Items {
    items: Vec<Skeleton>,
}

pub(super) struct Emptier<'a> {
    pub(super) client: &'a Client,
    pub(super) namespace: &'a str,
    pub(super) now: Timestamp,
    pub(super) deleted_at: Timestamp,
}

impl Emptier<'_> {
    /// Deletes the pods, and when they are gone everything else.
    pub(super) async fn empty(&self, found: Result<Resources, kube::Error>) -> Emptied {
        let mut emptied = Emptied::default();
        let resources = match found {
            Ok(resources) => resources,
            Err(error) => {
                emptied.undiscovered = Some(knarr_client::error::message(&error));
                emptied.errors.push(Error::Request {
                    step: "discover resources for",
                    object: self.namespace.to_owned(),
                    source: error,
                });
                Resources::default()
            }
        };
        if !resources.stale.is_empty() {
            emptied.undiscovered = Some(stale_text(&resources.stale));
            emptied.errors.push(Error::Unusable(stale_text(&resources.stale)));
        }
        let deletable: Vec<_> =
            resources.preferred().filter(|resource| resource.namespaced && resource.can("delete")).collect();
        let is_pods = |resource: &ResourceInfo| resource.group.is_empty() && resource.plural == "pods";
        for resource in deletable.iter().filter(|resource| is_pods(resource)) {
            self.empty_of(resource, &mut emptied).await;
        }
        if !emptied.remaining.is_empty() {
            emptied.pods_first = true;
            return emptied;
        }
        for resource in deletable.iter().filter(|resource| !is_pods(resource)) {
            self.empty_of(resource, &mut emptied).await;
        }
        emptied
    }

    async fn empty_of(&self, resource: &ResourceInfo, emptied: &mut Emptied) {
        if let Err(error) = self.try_empty_of(resource, emptied).await {
            emptied.errors.push(error);
        }
    }

    async fn try_empty_of(&self, resource: &ResourceInfo, emptied: &mut Emptied) -> Result<(), Error> {
        let grace = self.grace(resource).await?;
        let before = if resource.can("deletecollection") {
            self.delete(&resource.path(self.namespace, None)).await?;
            None
        } else {
            Some(self.list(resource).await?)
        };
        for object in before.into_iter().flatten() {
            self.delete(&resource.path(self.namespace, Some(object.name()))).await?;
        }
        let left = self.list(resource).await?;
        if left.is_empty() {
            return Ok(());
        }
        emptied.remaining.insert(format!("{}.{}", resource.plural, resource.group), left.len());
        let mut waiting = false;
        for finalizer in left.iter().filter_map(Cached::lineage).flat_map(|lineage| lineage.finalizers) {
            *emptied.finalizers.entry(finalizer.clone()).or_default() += 1;
            waiting = true;
        }
        match (grace, waiting) {
            (Some(grace), _) => emptied.estimate = emptied.estimate.max(Some(grace)),
            (None, true) => emptied.estimate = emptied.estimate.max(Some(FINALIZERS_TAKE)),
            (None, false) => {
                return Err(Error::Unusable(format!(
                    "unexpected items still remain in namespace: {} for gvr: {}/{}, Resource={}",
                    self.namespace, resource.group, resource.version, resource.plural
                )));
            }
        }
        Ok(())
    }

    /// How long the pods may still take to stop, if they have time left at all.
    async fn grace(&self, resource: &ResourceInfo) -> Result<Option<Duration>, Error> {
        if !resource.group.is_empty() || resource.plural != "pods" {
            return Ok(None);
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        let all = api.list(&ListParams::default()).await.step("list pods in", self.namespace)?;
        let graces = all.iter().filter(|pod| !pods::is_finished(pod));
        let longest =
            graces.filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds).max().unwrap_or(0);
        let longest = Duration::from_secs(u64::try_from(longest).unwrap_or(0));
        let passed = Duration::try_from(self.now.duration_since(self.deleted_at)).unwrap_or_default();
        Ok((passed < longest).then_some(longest))
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        let options = r#"{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}"#;
        let request =
            Request::builder().method(Method::DELETE).uri(path).header(CONTENT_TYPE, "application/json");
        let request = request.body(options.into()).map_err(|error| unaskable(path, &error))?;
        ignore_absent(self.client.request_text(request).await).step("delete", path).map(drop)
    }

    async fn list(&self, resource: &ResourceInfo) -> Result<Vec<Skeleton>, Error> {
        if !resource.can("list") {
            return Ok(Vec::new());
        }
        let path = resource.path(self.namespace, None);
        let request = Request::get(&path).body(Vec::new()).map_err(|error| unaskable(&path, &error))?;
        let answer = ignore_absent(self.client.request::<Items>(request).await).step("list", &path)?;
        Ok(answer.map(|list| list.items).unwrap_or_default())
    }
}

fn unaskable(path: &str, error: &http::Error) -> Error {
    Error::Unusable(format!("cannot ask for {path:?}: {error}"))
}

/// A resource that went away since it was discovered, or that cannot do what it said, has nothing to delete.
fn ignore_absent<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(None),
        other => other.map(Some),
    }
}

fn stale_text(stale: &[String]) -> String {
    let reasons = stale.iter().map(|group| format!("{group}: stale GroupVersion discovery: {group}"));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    format!(
        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {reasons}",
        stale.len()
    )
}
