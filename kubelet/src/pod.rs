//! One pod on this node: what its spec says, what the runtime says, what to do about the difference, and the worker
//! that does it.

pub mod actions;
pub mod backoff;
pub mod cleanup;
pub mod container;
pub mod dns;
pub mod environment;
pub mod hosts;
pub mod kill;
pub mod manifests;
pub mod messages;
pub mod mirror;
pub mod observed;
pub mod ordering;
pub mod references;
pub mod resize;
pub mod restart;
pub mod restart_all;
pub mod sandbox;
pub mod security;
pub mod spec;
pub mod start;
pub mod sync;
pub mod users;
pub mod waits;
pub mod worker;
pub mod workers;
