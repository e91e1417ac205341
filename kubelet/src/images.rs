//! Images on this node: pulled as pods ask, collected when the disk fills.

pub mod collect;
pub mod manager;
pub mod reference;
pub mod secrets;

pub use manager::{ImageManager, PullRequest};
