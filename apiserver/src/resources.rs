//! What the server decides about each kind: one folder per group, one file per kind.
//!
//! A kind without a line here has no rules beyond those of its schema and of [`crate::registry::Rules`].

mod apps;
mod core;

use std::sync::Arc;

use crate::catalogue::Extensions;
use crate::registry::{Plain, Strategy};

/// What serves the resources and subresources that the registry itself answers for.
pub fn extensions(extensions: &mut Extensions) {
    extensions.answer("", "bindings", Arc::new(core::pod::binding::Binding));
    extensions.create("pods", "binding", Arc::new(core::pod::binding::Binding));
}

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> Arc<dyn Strategy> {
    match (group, resource) {
        ("", "namespaces") => Arc::new(core::namespace::Namespace),
        ("", "pods") => Arc::new(core::pod::Pod),
        ("", "services") => Arc::new(core::service::Service),
        ("apps", "deployments") => Arc::new(apps::deployment::Deployment),
        _ => Arc::new(Plain),
    }
}
