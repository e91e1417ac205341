//! The core group.

pub mod namespace;
pub mod pod;
pub mod service;
