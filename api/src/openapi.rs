//! OpenAPI documents of what is served, version 2 (one for everything) and version 3 (one for each group version).
//!
//! Documents are built when asked for and are the caller's to keep or drop; [`fingerprint`] tells without building
//! one whether it would differ from another. Built-in kinds are described by the type table, custom ones by the
//! schema their definition publishes.

mod custom;
mod definition;
mod descriptions;
mod document;
mod gnostic;
mod operation;
mod parameter;
mod path;
mod resource;

pub use document::{fingerprint, v2, v2_protobuf, v3};
pub use resource::{Definition, Resource, Subresource};

/// Which version of the specification a part is rendered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V2,
    V3,
}

impl Version {
    /// A reference to a definition.
    fn reference(self, name: &str) -> serde_json::Value {
        let prefix = match self {
            Version::V2 => "#/definitions/",
            Version::V3 => "#/components/schemas/",
        };
        serde_json::json!({ "$ref": format!("{prefix}{name}") })
    }
}
