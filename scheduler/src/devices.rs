//! Devices of dynamic resource allocation: which there are, who has them, and which of them a claim could get.
//!
//! ```text
//!  ResourceSlices ──► slices ──► pools of one node ─┐
//!  ResourceClaims ──► in use, and decided ──────────┼──► search: request by request, device by device
//!  DeviceClasses, selectors in CEL ─────────────────┘        └─► solution: what goes into the claims' status
//! ```
//!
//! The search is upstream's: the first devices that satisfy everything are taken, in an order that drivers can
//! influence by how they name pools and slices.

mod capacity;
mod constraint;
mod counters;
mod in_use;
mod pools;
mod request;
mod search;
mod selector;
mod slices;
mod solution;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, ResourceClaim};

use crate::object::Node;
use crate::objects::{Objects, Store};
use in_use::InUse;
pub use request::requests_of;
use selector::Selectors;
pub use slices::Slices;
pub use solution::Solution;

/// A claim's devices as decided, before the API server shows them.
pub type Decided = (Arc<ResourceClaim>, Arc<AllocationResult>);

#[derive(Debug, Default)]
pub struct Devices {
    pub slices: Slices,
    pub classes: Store<DeviceClass>,
    in_use: InUse,
    /// By the uid of the claim.
    decided: HashMap<String, Arc<AllocationResult>>,
    in_use_soon: InUse,
    selectors: RefCell<Selectors>,
}

impl Devices {
    /// A claim changed from one state to another, either of which may be none.
    pub fn claim_changed(&mut self, old: Option<&ResourceClaim>, new: Option<&ResourceClaim>) {
        if let Some(before) = old.and_then(allocation_of) {
            self.in_use.remove(before);
        }
        if let Some(now) = new.and_then(allocation_of) {
            self.in_use.add(now);
            // What was decided is now to be seen, or is void.
            self.settle(new.map(uid_of).unwrap_or_default());
        }
    }

    /// Takes devices for claims that are about to be written.
    pub fn take(&mut self, decided: &[Decided]) {
        for (claim, allocation) in decided {
            self.settle(uid_of(claim));
            self.in_use_soon.add(allocation);
            self.decided.insert(uid_of(claim).to_owned(), allocation.clone());
        }
    }

    /// What was decided about a claim is written, or failed to be. Says whether the devices were still held.
    pub fn settle(&mut self, claim: &str) -> bool {
        let decided = self.decided.remove(claim);
        if let Some(allocation) = &decided {
            self.in_use_soon.remove(allocation);
        }
        decided.is_some()
    }

    pub fn is_decided(&self, claim: &ResourceClaim) -> bool {
        self.decided.contains_key(uid_of(claim))
    }

    /// Devices on a node for all of the claims, none of which is allocated; `None` if there are not enough.
    ///
    /// # Errors
    /// What is wrong with a claim, a class or a pool, in upstream's words.
    pub fn find<'a>(
        &'a self,
        claims: &[&'a ResourceClaim],
        node: &'a Node,
    ) -> Result<Option<Solution<'a>>, String> {
        search::find(self, claims, node)
    }
}

/// The claim's devices, if it has any.
pub fn allocation_of(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

pub fn uid_of(claim: &ResourceClaim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

/// As upstream names claims in messages.
fn full_name(claim: &ResourceClaim) -> String {
    let meta = &claim.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

impl Objects {
    /// A claim as the API server or a write of ours shows it; one that is older than what is known changes nothing.
    /// Gives the state before if it is news.
    pub fn claim_seen(&mut self, claim: &Arc<ResourceClaim>) -> Option<Option<Arc<ResourceClaim>>> {
        let known = self.resource_claims.get_like(claim).cloned();
        let same = known.as_ref().is_some_and(|known| uid_of(known) == uid_of(claim));
        if same && known.as_ref().is_some_and(|known| version_of(known) >= version_of(claim)) {
            return None;
        }
        self.resource_claims.set(claim.clone());
        self.devices.claim_changed(known.as_deref(), Some(claim));
        Some(known)
    }

    pub fn claim_gone(&mut self, claim: &ResourceClaim) {
        if let Some(known) = self.resource_claims.get_like(claim).cloned() {
            self.devices.claim_changed(Some(&known), None);
        }
        self.resource_claims.remove(claim);
    }
}

/// Resource versions are numbers in this API server.
fn version_of(claim: &ResourceClaim) -> u64 {
    claim.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
