//! The object and schema engine: everything that can be said about a Kubernetes object without a network, a
//! disk or a clock. Pure: no async, no I/O, no HTTP framework.
//!
//! An object is a `serde_json::Value`; what its fields mean is in a [`schema::Type`], read from the embedded tables
//! for built-in kinds and made from an OpenAPI schema for custom resources. Look a type up once per resource and
//! keep the [`schema::TypeRef`].

pub mod apply;
pub mod cel;
pub mod decode;
pub mod defaults;
pub mod duration;
pub mod field;
pub mod gvk;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod table;
pub mod time;
pub mod version;
