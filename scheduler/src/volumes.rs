//! Claims and volumes: what a pod's claims are bound to, or can be bound to, on a node.

mod binder;
mod capacity;
mod claims;
mod matching;
mod plan;

use std::collections::HashMap;

pub use binder::VolumeBinder;
pub use capacity::offers_more;
pub use claims::{ANN_SELECTED_NODE, Sorted, class_of, is_fully_bound, key_of, sort_out};
pub use plan::Plan;

/// What decisions have taken and the API server does not show yet.
#[derive(Debug, Default)]
pub struct Assumed {
    /// By volume: the claim that gets it, by namespace and name.
    volumes: HashMap<String, ClaimKey>,
    /// By claim: the node it is to be provisioned for.
    claims: HashMap<ClaimKey, Box<str>>,
}

pub type ClaimKey = (String, String);

impl Assumed {
    pub fn take(&mut self, plan: &Plan, node: &str) {
        for (volume, claim) in &plan.bindings {
            self.volumes.insert(volume.metadata.name.clone().unwrap_or_default(), key_of(claim));
        }
        for claim in &plan.provisions {
            self.claims.insert(key_of(claim), node.into());
        }
    }

    /// The plan is carried out or has failed: the API server shows the truth.
    pub fn give_back(&mut self, plan: &Plan) {
        for (volume, _) in &plan.bindings {
            self.volumes.remove(volume.metadata.name.as_deref().unwrap_or_default());
        }
        for claim in &plan.provisions {
            self.claims.remove(&key_of(claim));
        }
    }

    fn claim_of(&self, volume: &str) -> Option<&ClaimKey> {
        self.volumes.get(volume)
    }

    fn node_of(&self, claim: &ClaimKey) -> Option<&str> {
        self.claims.get(claim).map(|node| &**node)
    }
}
