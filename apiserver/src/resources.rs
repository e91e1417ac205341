//! What the server decides about each kind: one folder per group, one file per kind.
//!
//! A kind without a line here has no rules beyond those of its schema and of [`crate::registry::Rules`].

mod admission_registration;
mod api_registration;
mod apiextensions;
mod apps;
mod at;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod diff;
mod discovery;
mod fill;
mod flow_control;
mod networking;
mod node;
mod pod_spec;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use api_registration::local as local_condition;
pub use core::service::addresses;

use crate::catalogue::Extensions;
use crate::registry::{Plain, Strategy};

/// What serves the resources and subresources that the registry itself answers for.
pub fn extensions(extensions: &mut Extensions) {
    extensions.answer("", "bindings", Arc::new(core::pod::binding::Binding));
    extensions.compute("", "componentstatuses", Arc::new(core::component_status::ComponentStatuses));
    extensions.create("pods", "binding", Arc::new(core::pod::binding::Binding));
    extensions.create("pods", "eviction", Arc::new(core::pod::eviction::Eviction));
}

/// The strategy of a built-in resource.
pub fn strategy(group: &str, resource: &str) -> Arc<dyn Strategy> {
    match (group, resource) {
        ("", "configmaps") => Arc::new(core::config_map::ConfigMap),
        ("", "endpoints") => Arc::new(core::endpoints::Endpoints),
        ("", "events") => Arc::new(core::event::Event),
        ("", "limitranges") => Arc::new(core::limit_range::LimitRange),
        ("", "namespaces") => Arc::new(core::namespace::Namespace),
        ("", "nodes") => Arc::new(core::node::Node),
        ("", "persistentvolumeclaims") => Arc::new(core::persistent_volume_claim::PersistentVolumeClaim),
        ("", "persistentvolumes") => Arc::new(core::persistent_volume::PersistentVolume),
        ("", "pods") => Arc::new(core::pod::Pod),
        ("", "podtemplates") => Arc::new(core::pod_template::PodTemplate),
        ("", "replicationcontrollers") => Arc::new(core::replication_controller::ReplicationController),
        ("", "resourcequotas") => Arc::new(core::resource_quota::ResourceQuota),
        ("", "secrets") => Arc::new(core::secret::Secret),
        ("", "services") => Arc::new(core::service::Service),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => {
            Arc::new(admission_registration::WebhookConfiguration { mutating: true })
        }
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => {
            Arc::new(admission_registration::WebhookConfiguration { mutating: false })
        }
        ("admissionregistration.k8s.io", _) => Arc::new(admission_registration::Policy),
        ("apiregistration.k8s.io", "apiservices") => Arc::new(api_registration::ApiService),
        ("apps", "controllerrevisions") => Arc::new(apps::controller_revision::ControllerRevision),
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
        ("autoscaling", "horizontalpodautoscalers") => Arc::new(autoscaling::HorizontalPodAutoscaler),
        ("batch", "cronjobs") => Arc::new(batch::cron_job::CronJob),
        ("batch", "jobs") => Arc::new(batch::job::Job),
        ("coordination.k8s.io", "leases") => Arc::new(coordination::Lease),
        ("discovery.k8s.io", "endpointslices") => Arc::new(discovery::EndpointSlice),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => Arc::new(flow_control::FlowSchema),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            Arc::new(flow_control::PriorityLevelConfiguration)
        }
        ("networking.k8s.io", "ingressclasses") => Arc::new(networking::ingress_class::IngressClass),
        ("networking.k8s.io", "ingresses") => Arc::new(networking::ingress::Ingress),
        ("networking.k8s.io", "ipaddresses") => Arc::new(networking::ip_address::IpAddress),
        ("networking.k8s.io", "servicecidrs") => Arc::new(networking::service_cidr::ServiceCidr),
        ("networking.k8s.io", "networkpolicies") => Arc::new(networking::network_policy::NetworkPolicy),
        ("node.k8s.io", "runtimeclasses") => Arc::new(node::RuntimeClass),
        ("policy", "poddisruptionbudgets") => Arc::new(policy::PodDisruptionBudget),
        ("rbac.authorization.k8s.io", "clusterrolebindings") => Arc::new(rbac::Binding { namespaced: false }),
        ("rbac.authorization.k8s.io", "clusterroles") => Arc::new(rbac::Role { namespaced: false }),
        ("rbac.authorization.k8s.io", "rolebindings") => Arc::new(rbac::Binding { namespaced: true }),
        ("rbac.authorization.k8s.io", "roles") => Arc::new(rbac::Role { namespaced: true }),
        ("resource.k8s.io", "resourceclaims") => Arc::new(resource::ResourceClaim),
        ("resource.k8s.io", "resourceclaimtemplates") => Arc::new(resource::ResourceClaimTemplate),
        ("resource.k8s.io", "resourceslices") => Arc::new(resource::ResourceSlice),
        ("scheduling.k8s.io", "priorityclasses") => Arc::new(scheduling::PriorityClass),
        ("storage.k8s.io", "csidrivers") => Arc::new(storage::csi_driver::CsiDriver),
        ("storage.k8s.io", "csinodes") => Arc::new(storage::csi_node::CsiNode),
        ("storage.k8s.io", "csistoragecapacities") => {
            Arc::new(storage::csi_storage_capacity::CsiStorageCapacity)
        }
        ("storage.k8s.io", "volumeattachments") => Arc::new(storage::volume_attachment::VolumeAttachment),
        ("storage.k8s.io", "volumeattributesclasses") => {
            Arc::new(storage::volume_attributes_class::VolumeAttributesClass)
        }
        ("storage.k8s.io", "storageclasses") => Arc::new(storage::storage_class::StorageClass),
        _ => Arc::new(Plain),
    }
}
