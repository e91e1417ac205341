//! The network of a node, without external tools: pod attachment, the service
//! data plane, network policy, routes between nodes, and cluster DNS.
//!
//! - [`config`]: what the binary decides once for a node
//! - [`dialer`]: connects to pods and Services from anywhere ([`dialer::Dialer`])
//! - [`dns`]: names of Services and pods ([`dns::Dns`])
//! - [`firewall`]: what of the machine's own firewall is in the way of pods
//! - [`lan`]: the link that several nodes on one machine share ([`lan::Lan`])
//! - [`node`]: routes to the pods of other nodes ([`node::Routes`])
//! - [`pod`]: gives pods a network ([`pod::PodNetwork`])
//! - [`policy`]: who may speak with whom ([`policy::Policies`])
//! - [`proxy`]: makes Services reachable ([`proxy::Proxy`])

pub mod config;
pub mod destroy;
pub mod dialer;
pub mod dns;
pub mod firewall;
pub mod kernel;
pub mod lan;
pub mod node;
pub mod objects;
pub mod pod;
pub mod policy;
pub mod proxy;
mod relay;

pub use config::Config;
pub use destroy::destroy;
