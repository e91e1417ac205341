//! What pods and everything with a pod template have in common.

pub mod defaults;
mod image;
