//! What the server decides about each kind: one folder per group, one file per kind.
//!
//! A kind without a line here has no rules beyond those of its schema and of [`crate::registry::Rules`].

mod apiextensions;
mod apps;
mod batch;
mod certificates;
mod core;
mod fill;
mod pod_spec;

use std::sync::Arc;

use crate::catalogue::Extensions;
use crate::registry::{Plain, Strategy};

/// What serves the resources and subresources that the registry itself answers for.
pub fn extensions(extensions: &mut Extensions) {
    extensions.answer("", "bindings", Arc::new(core::pod::binding::Binding));
    extensions.create("pods", "binding", Arc::new(core::pod::binding::Binding));
    extensions.create("pods", "eviction", Arc::new(core::pod::eviction::Eviction));
}

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> Arc<dyn Strategy> {
    match (group, resource) {
        ("", "namespaces") => Arc::new(core::namespace::Namespace),
        ("", "persistentvolumeclaims") => Arc::new(core::persistent_volume_claim::PersistentVolumeClaim),
        ("", "persistentvolumes") => Arc::new(core::persistent_volume::PersistentVolume),
        ("", "pods") => Arc::new(core::pod::Pod),
        ("", "podtemplates") => Arc::new(core::pod_template::PodTemplate),
        ("", "replicationcontrollers") => Arc::new(core::replication_controller::ReplicationController),
        ("", "services") => Arc::new(core::service::Service),
        ("apps", "daemonsets") => Arc::new(apps::daemon_set::DaemonSet),
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            Arc::new(apiextensions::definition::Definition)
        }
        ("certificates.k8s.io", "certificatesigningrequests") => {
            Arc::new(certificates::signing_request::SigningRequest)
        }
        ("apps", "deployments") => Arc::new(apps::deployment::Deployment),
        ("apps", "replicasets") => Arc::new(apps::replica_set::ReplicaSet),
        ("apps", "statefulsets") => Arc::new(apps::stateful_set::StatefulSet),
        ("batch", "cronjobs") => Arc::new(batch::cron_job::CronJob),
        ("batch", "jobs") => Arc::new(batch::job::Job),
        _ => Arc::new(Plain),
    }
}
