//! The node itself in the API: the Node object, its status, and the Lease that says it lives.

pub mod conditions;
pub mod lease;
pub mod machine;
pub mod object;
pub mod register;
pub mod updates;

use k8s_openapi::api::core::v1::ObjectReference;

pub use crate::config::Machine;

/// What events about the node point at; upstream uses the name for the uid, and describers look for that.
pub fn reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
