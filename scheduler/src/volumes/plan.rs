//! What is to be done with a pod's claims if it goes to a node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::claims::{Claim, Sorted, annotation, volume_name};
use super::matching::{self, fits_node};
use super::{ANN_SELECTED_NODE, Assumed, capacity, class_of, key_of};
use crate::framework::Reason;
use crate::object::Node;
use crate::objects::Objects;

#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub bindings: Vec<(Arc<PersistentVolume>, Claim)>,
    /// Claims whose volumes are to be made for the node.
    pub provisions: Vec<Claim>,
}

/// Why the claims keep a pod from a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    NodeConflict,
    BindConflict,
    NotEnoughSpace,
    NoVolume,
    /// A mistake in the objects, which no other node makes better.
    Broken(String),
}

impl Misfit {
    pub fn reason(self) -> Reason {
        match self {
            Self::NodeConflict => "node(s) didn't match PersistentVolume's node affinity".into(),
            Self::BindConflict => "node(s) didn't find available persistent volumes to bind".into(),
            Self::NotEnoughSpace => "node(s) did not have enough free storage".into(),
            Self::NoVolume => {
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)".into()
            }
            Self::Broken(what) => what.into(),
        }
    }
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }

    pub fn of(claims: &Sorted, node: &Node, objects: &Objects, assumed: &Assumed) -> Result<Self, Misfit> {
        for claim in &claims.bound {
            let volume = objects.volumes.get("", volume_name(claim)).ok_or(Misfit::NoVolume)?;
            if !fits_node(volume, node) {
                return Err(Misfit::NodeConflict);
            }
        }
        let mut plan = Self::default();
        let mut to_match = Vec::new();
        for claim in &claims.delayed {
            let key = key_of(claim);
            match assumed.node_of(&key).or_else(|| annotation(claim, ANN_SELECTED_NODE)) {
                Some(selected) if selected != &*node.metadata.name => return Err(Misfit::BindConflict),
                Some(_) => plan.provisions.push(claim.clone()),
                None => to_match.push(claim),
            }
        }
        // Small claims first, or they would take what large ones need.
        to_match.sort_by_key(|claim| matching::requested(claim));
        let mut taken = Vec::new();
        for claim in to_match {
            match matching::find(claim, node, objects, assumed, &taken) {
                Some(volume) => {
                    taken.push(volume.clone());
                    plan.bindings.push((volume, claim.clone()));
                }
                None => plan.provisions.push(claim.clone()),
            }
        }
        plan.check_provisions(node, objects)?;
        Ok(plan)
    }

    fn check_provisions(&self, node: &Node, objects: &Objects) -> Result<(), Misfit> {
        for claim in &self.provisions {
            let name = class_of(claim);
            let Some(class) = objects.classes.get("", name) else {
                return Err(Misfit::Broken(format!("failed to find storage class {name:?}")));
            };
            if !capacity::provisions(class, node) {
                return Err(Misfit::BindConflict);
            }
            if !capacity::is_enough(claim, class, node, objects) {
                return Err(Misfit::NotEnoughSpace);
            }
        }
        Ok(())
    }
}
