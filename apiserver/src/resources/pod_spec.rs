//! What pods and everything with a pod template have in common.

pub mod amounts;
mod annotations;
pub mod containers;
pub mod defaults;
pub mod env;
mod image;
mod mounts;
mod network;
pub mod os;
mod paths;
mod pod_resources;
pub mod probes;
pub mod scheduling;
mod security;
mod spread;
mod template;
mod validate;
pub mod volumes;
pub mod warnings;
mod windows;
pub mod workload;

pub use annotations::validate_update as validate_annotations_update;
pub use annotations::{
    validate as validate_annotations, validate_on_create as validate_annotations_on_create,
};
pub use template::validate as validate_template;
pub use validate::{Owner, is_mirror, validate};
