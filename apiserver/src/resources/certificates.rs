//! The certificates group.

pub mod signer;
pub mod signing_request;
