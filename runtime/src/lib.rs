//! Images, snapshots, sandboxes, containers, cgroups and the shim that outlives the agent.
//!
//! Root and `unsafe` live here and nowhere else. The kubelet sees only [`cri`].

pub mod cri;
