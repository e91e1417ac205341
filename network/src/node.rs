//! Routes to the pods of the other nodes.
//!
//! To a node on the same layer 2 the way is a plain route by its address. To
//! others packets go through VXLAN, whose link needs no exchange between the
//! nodes: every node can work out the hardware address of any other.

pub mod plan;
mod routes;
mod run;
mod tunnel;

pub use plan::Node;
pub use routes::Error;
pub use run::Routes;
