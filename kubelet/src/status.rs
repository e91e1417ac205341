//! What the API is told about a pod: phase, conditions and container statuses computed from what is seen, and the
//! manager that writes them.

pub mod conditions;
pub mod containers;
pub mod generate;
pub mod manager;
pub mod patch;
pub mod phase;
pub mod qos;
pub mod resources;
