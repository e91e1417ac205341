//! What happens around containers: admission to the node, and hooks after start and before stop.

pub mod admission;
pub mod affinity;
pub mod hooks;
