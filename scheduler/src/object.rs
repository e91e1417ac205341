//! The parts of pods and nodes that scheduling looks at, decoded and kept instead of the whole objects.

mod affinity;
mod claim;
mod condition;
mod container;
mod node;
mod pod;
mod spread;
mod volume;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::{Deserialize, Deserializer};

pub use affinity::{Affinities, Term, written};
pub use claim::ResourceClaimRef;
pub use condition::Condition;
pub use container::{Container, ContainerResources, HostPort};
pub use node::Node;
pub use pod::Pod;
pub use spread::{SpreadConstraint, SpreadNodes};
pub use volume::{Disk, Volume};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub labels: Labels,
    pub deletion_timestamp: Option<Time>,
    /// The owner that manages the object, without the others.
    #[serde(rename = "ownerReferences", deserialize_with = "controller")]
    pub controller: Option<Box<OwnerReference>>,
}

fn controller<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<OwnerReference>>, D::Error> {
    let owners = Vec::<OwnerReference>::deserialize(from)?;
    Ok(owners.into_iter().find(|owner| owner.controller == Some(true)).map(Box::new))
}

/// The moment of a time in an object.
fn moment(time: Option<Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}
