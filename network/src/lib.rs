//! The network of a node, without external tools: pod attachment, the service
//! data plane, network policy, routes between nodes, and cluster DNS.
//!
//! - [`config`]: what the binary decides once for a node
//! - [`pod`]: gives pods a network ([`pod::PodNetwork`])

pub mod config;
pub mod kernel;
pub mod pod;

pub use config::Config;
