//! The cells of built-in kinds: one function per kind, listed here. The columns they fill are in the facts.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod config;
mod event;
mod flowcontrol;
mod lifecycle;
mod network;
mod node;
mod pod;
mod rbac;
mod resource;
mod scheduling;
mod service;
mod storage;
mod system;

use serde_json::Value;

use super::view::View;
use super::{Cell, Row, RowCondition};

type Render = for<'a> fn(View<'a>) -> Vec<Cell<'a>>;

/// How a kind is rendered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells {
    render: Render,
    conditions: fn(View<'_>) -> &'static [RowCondition],
    mark_list: fn(&[&Value], &mut [Row<'_>]),
}

impl Cells {
    const fn of(render: Render) -> Self {
        Self { render, conditions: |_| &[], mark_list: |_, _| {} }
    }

    pub fn render<'a>(&self, object: View<'a>) -> Vec<Cell<'a>> {
        (self.render)(object)
    }

    pub fn conditions(&self, object: View<'_>) -> &'static [RowCondition] {
        (self.conditions)(object)
    }

    /// Changes rows by what else is in the list.
    pub fn mark_list(&self, objects: &[&Value], rows: &mut [Row<'_>]) {
        (self.mark_list)(objects, rows);
    }
}

/// Name and creation time.
pub(super) const DEFAULT: Cells = Cells::of(name_and_creation);

fn name_and_creation(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str("metadata.creationTimestamp").into()]
}

fn name_and_age(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.age()]
}

/// The cells of a kind that has columns of its own.
pub(super) fn cells(group: &str, kind: &str) -> Option<Cells> {
    CATALOGUE.iter().find(|(g, k, _)| *g == group && *k == kind).map(|(_, _, cells)| *cells)
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const FLOWCONTROL: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const SCHEDULING: &str = "scheduling.k8s.io";
const STORAGE: &str = "storage.k8s.io";

const CATALOGUE: &[(&str, &str, Cells)] = &[
    ("", "ComponentStatus", Cells::of(system::component_status)),
    ("", "ConfigMap", Cells::of(config::config_map)),
    ("", "Endpoints", Cells::of(service::endpoints)),
    ("", "Event", Cells::of(event::cells)),
    ("", "LimitRange", DEFAULT),
    ("", "Namespace", Cells::of(config::namespace)),
    ("", "Node", Cells::of(node::cells)),
    ("", "PersistentVolume", Cells::of(storage::persistent_volume)),
    ("", "PersistentVolumeClaim", Cells::of(storage::persistent_volume_claim)),
    ("", "Pod", Cells { render: pod::cells, conditions: pod::conditions, mark_list: |_, _| {} }),
    ("", "PodTemplate", Cells::of(apps::pod_template)),
    ("", "ReplicationController", Cells::of(apps::replication_controller)),
    ("", "ResourceQuota", Cells::of(config::resource_quota)),
    ("", "Secret", Cells::of(config::secret)),
    ("", "Service", Cells::of(service::cells)),
    ("", "ServiceAccount", Cells::of(name_and_age)),
    (ADMISSION, "MutatingAdmissionPolicy", Cells::of(admission::mutating_policy)),
    (ADMISSION, "MutatingAdmissionPolicyBinding", Cells::of(admission::binding)),
    (ADMISSION, "MutatingWebhookConfiguration", Cells::of(admission::webhooks)),
    (ADMISSION, "ValidatingAdmissionPolicy", Cells::of(admission::validating_policy)),
    (ADMISSION, "ValidatingAdmissionPolicyBinding", Cells::of(admission::binding)),
    (ADMISSION, "ValidatingWebhookConfiguration", Cells::of(admission::webhooks)),
    ("apiextensions.k8s.io", "CustomResourceDefinition", Cells::of(system::custom_resource_definition)),
    ("apiregistration.k8s.io", "APIService", Cells::of(system::api_service)),
    ("apps", "ControllerRevision", Cells::of(apps::controller_revision)),
    ("apps", "DaemonSet", Cells::of(apps::daemon_set)),
    ("apps", "Deployment", Cells::of(apps::deployment)),
    ("apps", "ReplicaSet", Cells::of(apps::replica_set)),
    ("apps", "StatefulSet", Cells::of(apps::stateful_set)),
    ("autoscaling", "HorizontalPodAutoscaler", Cells::of(autoscaling::horizontal_pod_autoscaler)),
    ("autoscaling", "Scale", Cells::of(autoscaling::scale)),
    ("batch", "CronJob", Cells::of(batch::cron_job)),
    ("batch", "Job", Cells::of(batch::job)),
    (CERTIFICATES, "CertificateSigningRequest", Cells::of(certificates::signing_request)),
    (CERTIFICATES, "ClusterTrustBundle", Cells::of(certificates::trust_bundle)),
    (CERTIFICATES, "PodCertificateRequest", Cells::of(certificates::pod_request)),
    ("coordination.k8s.io", "Lease", Cells::of(system::lease)),
    ("coordination.k8s.io", "LeaseCandidate", Cells::of(system::lease_candidate)),
    ("discovery.k8s.io", "EndpointSlice", Cells::of(service::endpoint_slice)),
    ("events.k8s.io", "Event", Cells::of(event::cells)),
    (FLOWCONTROL, "FlowSchema", Cells::of(flowcontrol::flow_schema)),
    (FLOWCONTROL, "PriorityLevelConfiguration", Cells::of(flowcontrol::priority_level)),
    ("internal.apiserver.k8s.io", "StorageVersion", Cells::of(system::storage_version)),
    ("lifecycle.k8s.io", "Eviction", Cells::of(lifecycle::eviction)),
    ("lifecycle.k8s.io", "EvictionRequest", Cells::of(lifecycle::eviction_request)),
    ("meta", "Status", Cells::of(system::status)),
    (NETWORKING, "IPAddress", Cells::of(network::ip_address)),
    (NETWORKING, "Ingress", Cells::of(network::ingress)),
    (NETWORKING, "IngressClass", Cells::of(network::ingress_class)),
    (NETWORKING, "NetworkPolicy", Cells::of(network::network_policy)),
    (NETWORKING, "ServiceCIDR", Cells::of(network::service_cidr)),
    ("node.k8s.io", "RuntimeClass", Cells::of(node::runtime_class)),
    ("policy", "PodDisruptionBudget", Cells::of(scheduling::disruption_budget)),
    (RBAC, "ClusterRole", DEFAULT),
    (RBAC, "ClusterRoleBinding", Cells::of(rbac::binding)),
    (RBAC, "Role", DEFAULT),
    (RBAC, "RoleBinding", Cells::of(rbac::binding)),
    (RESOURCE, "DeviceClass", Cells::of(name_and_age)),
    (RESOURCE, "DeviceTaintRule", Cells::of(resource::taint_rule)),
    (RESOURCE, "ResourceClaim", Cells::of(resource::claim)),
    (RESOURCE, "ResourceClaimTemplate", Cells::of(name_and_age)),
    (RESOURCE, "ResourcePoolStatusRequest", Cells::of(resource::pool_status_request)),
    (RESOURCE, "ResourceSlice", Cells::of(resource::slice)),
    (SCHEDULING, "CompositePodGroup", Cells::of(scheduling::composite_pod_group)),
    (SCHEDULING, "PodGroup", Cells::of(scheduling::pod_group)),
    (SCHEDULING, "PriorityClass", Cells::of(scheduling::priority_class)),
    (SCHEDULING, "Workload", Cells::of(name_and_age)),
    (STORAGE, "CSIDriver", Cells::of(storage::csi_driver)),
    (STORAGE, "CSINode", Cells::of(storage::csi_node)),
    (STORAGE, "CSIStorageCapacity", DEFAULT),
    (
        STORAGE,
        "StorageClass",
        Cells { render: storage::class, conditions: |_| &[], mark_list: storage::mark_default },
    ),
    (STORAGE, "VolumeAttachment", Cells::of(storage::attachment)),
    (STORAGE, "VolumeAttributesClass", Cells::of(storage::attributes_class)),
    ("storagemigration.k8s.io", "StorageVersionMigration", Cells::of(system::storage_version_migration)),
];
