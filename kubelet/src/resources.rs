//! CPU and memory: quantities, what a pod and its containers get in cgroups, and the hierarchy above them.

pub mod amount;
pub mod cgroups;
pub mod container;
pub mod pod;
