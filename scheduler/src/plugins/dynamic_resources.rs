//! DynamicResources: ResourceClaims, where their devices are, and which devices those get that have none.

use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::ResourceClaim;
use knarr_client::Cached;

use crate::cluster::Cluster;
use crate::devices::{allocation_of, requests_of, uid_of};
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Reason, Rejection, Score, Verdict, scale_to_largest};
use crate::object::{Pod, ResourceClaimRef};
use crate::plugins::{DYNAMIC_RESOURCES, selector_matches};
use crate::state::NodeInfo;

/// How many pods may use a claim.
const MOST_USERS: usize = 256;

pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        DYNAMIC_RESOURCES
    }

    fn events(&self) -> Kinds {
        let nodes = Kinds::NODE_ADD.or(Kinds::NODE_LABEL).or(Kinds::NODE_ALLOCATABLE);
        let devices = Kinds::DEVICE_CLASS.or(Kinds::RESOURCE_SLICE);
        Kinds::RESOURCE_CLAIM.or(Kinds::POD_CLAIMS).or(nodes).or(devices)
    }

    fn helps(&self, pod: &Pod, event: &Event, cluster: &Cluster) -> bool {
        let complete = || pod.resource_claims.iter().all(|claim| find(pod, claim, cluster).is_ok());
        match &event.subject {
            Subject::ResourceClaim { old, new } => complete() && claim_helps(pod, old.as_deref(), new),
            Subject::Pod { .. } => event.is_about(pod) && complete(),
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        if pod.resource_claims.is_empty() {
            return PreFilter::Skip;
        }
        match Claims::of(pod, cluster) {
            Ok(claims) => PreFilter::filter(claims),
            Err(reason) => PreFilter::Rejected(Rejection::unresolvable(reason)),
        }
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a Pod,
        cluster: &'a Cluster,
        _: &[&NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let claims = Claims::of(pod, cluster).ok()?;
        let mut requests = claims.open.iter().flat_map(|claim| requests_of(claim));
        requests.any(|request| request.first_available.is_some()).then(|| Box::new(claims) as Box<dyn Score>)
    }
}

/// Devices that came free, or news of a claim that the pod waits for.
fn claim_helps(pod: &Pod, old: Option<&ResourceClaim>, new: &ResourceClaim) -> bool {
    if old.is_some_and(|old| allocation_of(old).is_some()) && allocation_of(new).is_none() {
        return true;
    }
    let is_own =
        |own: &ResourceClaimRef| matches!(own, ResourceClaimRef::Named(name) if **name == *new.name());
    new.namespace() == &*pod.metadata.namespace
        && pod.resource_claims.iter().any(is_own)
        && old.is_none_or(|old| old.status != new.status)
}

/// The claim as it is; or why the pod cannot have it, in upstream's words.
fn find<'a>(
    pod: &Pod,
    claim: &ResourceClaimRef,
    cluster: &'a Cluster,
) -> Result<&'a Arc<ResourceClaim>, Reason> {
    let (namespace, pod_name) = (&pod.metadata.namespace, &pod.metadata.name);
    let ResourceClaimRef::Named(name) = claim else {
        return Err(format!("pod \"{namespace}/{pod_name}\": ResourceClaim not created yet").into());
    };
    let Some(claim) = cluster.objects.resource_claims.get(namespace, name) else {
        return Err(format!("could not find ResourceClaim \"{namespace}/{name}\"").into());
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("resourceclaim {name:?} is being deleted").into());
    }
    Ok(claim)
}

/// Whether the pod is noted as a user of the claim, or none but it is.
fn is_used_by(pod: &Pod, claim: &ResourceClaim) -> (bool, usize) {
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    (users.iter().any(|user| user.uid == *pod.metadata.uid), users.len())
}

/// A claim that keeps the pod from nodes it could go to, and that nobody else uses: it may give up its devices.
pub fn deallocatable(pod: &Pod, cluster: &Cluster) -> Option<Arc<ResourceClaim>> {
    let claims = pod.resource_claims.iter().filter_map(|claim| find(pod, claim, cluster).ok());
    let mut bound = claims.filter(|claim| {
        let (by_pod, users) = is_used_by(pod, claim);
        let selector = allocation_of(claim).and_then(|allocation| allocation.node_selector.as_ref());
        let nodes = || cluster.state.order().iter().filter_map(|slot| cluster.state.nodes()[*slot].node());
        (users == 0 || (users == 1 && by_pod))
            && selector.is_some_and(|selector| nodes().any(|node| !selector_matches(selector, node)))
    });
    bound.next().cloned()
}

/// The claims of a pod.
#[derive(Clone)]
pub struct Claims<'a> {
    cluster: &'a Cluster,
    /// Where the claims are that have devices; without a selector they are everywhere.
    selectors: Vec<&'a NodeSelector>,
    /// Those that have no devices yet.
    open: Vec<&'a Arc<ResourceClaim>>,
}

impl<'a> Claims<'a> {
    /// # Errors
    /// Why the pod can go nowhere with its claims.
    pub fn of(pod: &Pod, cluster: &'a Cluster) -> Result<Self, Reason> {
        let mut claims = Self { cluster, selectors: Vec::new(), open: Vec::new() };
        for claim in &pod.resource_claims {
            let claim = find(pod, claim, cluster)?;
            match allocation_of(claim) {
                Some(allocation) => {
                    let (by_pod, users) = is_used_by(pod, claim);
                    if !by_pod && users >= MOST_USERS {
                        return Err("resourceclaim in use".into());
                    }
                    claims.selectors.extend(allocation.node_selector.as_ref());
                }
                None => claims.add_open(claim)?,
            }
        }
        Ok(claims)
    }

    fn add_open(&mut self, claim: &'a Arc<ResourceClaim>) -> Result<(), Reason> {
        let devices = &self.cluster.objects.devices;
        let name = || format!("{}/{}", claim.namespace(), claim.name());
        if devices.is_decided(claim) {
            return Err(format!("resource claim {} is in the process of being allocated", name()).into());
        }
        for request in requests_of(claim) {
            let known = |class: &str, request: &str| match devices.classes.get("", class) {
                Some(_) => Ok(()),
                None => Err(Reason::from(format!("request {request}: device class {class} does not exist"))),
            };
            match (&request.exactly, &request.first_available) {
                (Some(exactly), _) => known(&exactly.device_class_name, &request.name)?,
                (None, Some(alternatives)) => {
                    for alternative in alternatives {
                        let full_name = format!("{}/{}", request.name, alternative.name);
                        known(&alternative.device_class_name, &full_name)?;
                    }
                }
                (None, None) => {
                    let (claim, request) = (name(), &request.name);
                    return Err(
                        format!("resource claim {claim}, request {request}: unknown request type").into()
                    );
                }
            }
        }
        // A pod may name a claim more than once.
        if !self.open.iter().any(|other| uid_of(other) == uid_of(claim)) {
            self.open.push(claim);
        }
        Ok(())
    }

    /// The claims that get devices with the decision.
    pub fn open(&self) -> &[&'a Arc<ResourceClaim>] {
        &self.open
    }

    fn open_claims(&self) -> Vec<&'a ResourceClaim> {
        self.open.iter().map(|claim| &***claim).collect()
    }
}

impl Filter for Claims<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let Some(place) = node.node() else { return Ok(()) };
        if !self.selectors.iter().all(|selector| selector_matches(selector, place)) {
            return Err(Rejection::unresolvable("resourceclaim not available on the node"));
        }
        if self.open.is_empty() {
            return Ok(());
        }
        match self.cluster.objects.devices.find(&self.open_claims(), place) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Rejection::unresolvable("cannot allocate all claims")),
            Err(error) => Err(Rejection::unresolvable(error)),
        }
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(self.clone())
    }
}

impl Score for Claims<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(place) = node.node() else { return 0 };
        let found = self.cluster.objects.devices.find(&self.open_claims(), place);
        found.ok().flatten().map_or(0, |solution| solution.score())
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        scale_to_largest(scores, false);
    }
}

#[cfg(test)]
mod tests;
