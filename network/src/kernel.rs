//! How this crate speaks to the kernel: in which namespace, and the few
//! nftables expressions the other modules share. Netlink only, no binaries.

pub mod namespace;
pub mod nft;
pub mod ranges;
pub mod source;

pub use namespace::Namespace;
