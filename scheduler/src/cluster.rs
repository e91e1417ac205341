//! All that a decision is made from.

use crate::nominated::Nominated;
use crate::objects::Objects;
use crate::state::State;
use crate::volumes::Assumed;

#[derive(Debug, Default)]
pub struct Cluster {
    pub state: State,
    pub objects: Objects,
    pub nominated: Nominated,
    /// Volumes that decisions have taken and that are not written yet.
    pub assumed: Assumed,
}
