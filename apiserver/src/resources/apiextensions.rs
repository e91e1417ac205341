//! apiextensions.k8s.io

pub mod definition;
