//! CPU and memory of running pods changed in place.
//!
//! ```text
//!   wanted (the API's spec) ── admitted again ──▶ allocated ── cgroups written ──▶ actuated
//!          PodResizePending                          PodResizeInProgress
//! ```
//!
//! Everything the agent does to a pod follows what is allocated; the wish of the spec waits until the node has room.

pub mod allocation;
pub mod conditions;
pub mod messages;
pub mod queue;
pub mod values;

pub use allocation::{Allocations, Amounts};
pub use conditions::ResizeConditions;
