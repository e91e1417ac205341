//! Storage drivers on this node (the Container Storage Interface): who has registered ([`drivers`], [`registration`]),
//! what the cluster is told of them ([`node_info`]), and how they are spoken to ([`client`], [`proto`]). Mounting their
//! volumes into pods is [`crate::volumes::csi`]'s.

pub mod client;
pub mod drivers;
pub mod node_info;
pub mod proto;
pub mod registration;
