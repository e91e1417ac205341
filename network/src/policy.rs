//! NetworkPolicy in the forward hook.
//!
//! ```text
//! forward:  established, related, a pod to itself      accept
//!           ip saddr vmap @egress                      jump <what this pod may send>
//!           ip daddr vmap @ingress                     jump <what this pod may get>
//! <chain>:  peer and port of a rule                    return
//!           drop
//! ```
//!
//! Only pods of this node are in the maps: each end of a connection is judged
//! where it lives. Traffic of the node itself does not pass this hook, as
//! Kubernetes wants. Service addresses are translated before, client addresses
//! after, so rules see pods and true clients.

pub mod objects;
pub mod plan;
mod run;
mod table;

pub use run::Policies;
pub use table::Error;
