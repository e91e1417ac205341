//! The ResourceClaims that a pod names.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireClaim {
    name: Box<str>,
    resource_claim_name: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireClaimStatus {
    name: Box<str>,
    resource_claim_name: Option<Box<str>>,
}

/// A claim of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResourceClaimRef {
    /// The claim of this name, in the pod's namespace.
    Named(Box<str>),
    /// One that is made from a template, and is not there yet.
    NotMade,
}

/// The claims that a pod needs: without those for which the status says that none is needed.
pub(super) fn of(claims: Vec<WireClaim>, made: &[WireClaimStatus]) -> Vec<ResourceClaimRef> {
    let resolve = |claim: WireClaim| {
        if let Some(name) = claim.resource_claim_name {
            return Some(ResourceClaimRef::Named(name));
        }
        match made.iter().find(|status| status.name == claim.name) {
            None => Some(ResourceClaimRef::NotMade),
            Some(status) => status.resource_claim_name.clone().map(ResourceClaimRef::Named),
        }
    };
    claims.into_iter().filter_map(resolve).collect()
}
