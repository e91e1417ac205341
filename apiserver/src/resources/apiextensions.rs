//! apiextensions.k8s.io

pub mod definition;
mod schema;
mod versions;
