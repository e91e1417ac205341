//! Images, snapshots, sandboxes, containers, cgroups and the shim that outlives the agent.
//!
//! Root and `unsafe` live here and nowhere else. The kubelet sees only [`cri`]; [`shim::main`] is the entry point
//! of the process that stands beside every container.

pub mod build;
pub mod cgroup;
pub mod cri;
pub mod embedded;
pub mod image;
pub mod shim;
pub mod spec;
mod sys;
pub mod usage;
