//! Cluster DNS, as the Kubernetes DNS specification 1.1.0 says, and in what it
//! leaves open as upstream's default server does.
//!
//! ```text
//! informers ─▶ [`zone`]: an index by name ─┐
//! socket ─▶ [`server`] ─▶ [`answer`] ──────┴─▶ reply
//!                │ names of others
//!                └──▶ [`forward`] ─▶ the machine's resolvers
//! ```
//!
//! It runs on every node and listens on the ClusterIP of the `kube-dns` Service
//! itself, which the node's loopback link carries: pods and the node reach it
//! without translation, and an answer never crosses the network.

pub mod answer;
pub mod forward;
pub mod publish;
mod run;
pub mod server;
pub mod zone;

pub use run::{Dns, Error};
