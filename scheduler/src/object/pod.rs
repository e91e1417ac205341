//! Pods, with what they need worked out once, when they are decoded.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    NodeAffinity, NodeSelector, PodSchedulingGate, PreferredSchedulingTerm, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::affinity::WireTerms;
use super::claim::{self, WireClaim, WireClaimStatus};
use super::volume::WireVolume;
use super::{
    Affinities, Condition, Container, ContainerResources, HostPort, Labels, Meta, ResourceClaimRef,
    SpreadConstraint, Volume, moment,
};
use crate::resource::{Request, WireResources};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Box<str>,
    scheduler_name: Box<str>,
    priority: i32,
    preemption_policy: Box<str>,
    node_selector: Labels,
    affinity: WireAffinity,
    tolerations: Vec<Toleration>,
    topology_spread_constraints: Vec<TopologySpreadConstraint>,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    volumes: Vec<WireVolume>,
    resources: Option<ContainerResources>,
    overhead: WireResources,
    scheduling_gates: Vec<PodSchedulingGate>,
    resource_claims: Vec<WireClaim>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireAffinity {
    node_affinity: Option<NodeAffinity>,
    pod_affinity: WireTerms,
    pod_anti_affinity: WireTerms,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Box<str>,
    nominated_node_name: Box<str>,
    conditions: Vec<Condition>,
    start_time: Option<Time>,
    resource_claim_statuses: Vec<WireClaimStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WirePod {
    metadata: Meta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Deserialize)]
#[serde(from = "WirePod")]
pub struct Pod {
    pub metadata: Meta,
    pub node_name: Box<str>,
    pub scheduler_name: Box<str>,
    pub priority: i32,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    pub node_selector: Labels,
    pub required_node_affinity: Option<Box<NodeSelector>>,
    pub preferred_node_affinity: Vec<PreferredSchedulingTerm>,
    pub affinities: Option<Box<Affinities>>,
    pub tolerations: Vec<Toleration>,
    pub spread: Vec<SpreadConstraint>,
    pub host_ports: Vec<HostPort>,
    pub request: Request,
    /// Of init containers and containers, as the pod writes them.
    pub images: Vec<Box<str>>,
    pub volumes: Vec<Volume>,
    pub scheduling_gates: Vec<String>,
    pub resource_claims: Vec<ResourceClaimRef>,
    /// Succeeded or Failed: it needs nothing any more.
    pub finished: bool,
    /// Where room is being made for it.
    pub nominated_node: Box<str>,
    pub started: Option<Timestamp>,
    /// PodScheduled.
    pub scheduled: Option<Box<Condition>>,
    /// DisruptionTarget.
    pub disruption: Option<Box<Condition>>,
}

impl Pod {
    /// Whether the scheduler has told it to go, and it is going.
    pub fn is_leaving_for_another(&self) -> bool {
        let by_us = |condition: &Condition| {
            &*condition.status == "True" && &*condition.reason == "PreemptionByScheduler"
        };
        self.metadata.deletion_timestamp.is_some() && self.disruption.as_deref().is_some_and(by_us)
    }

    pub fn claims(&self) -> impl Iterator<Item = (&str, bool)> {
        self.volumes.iter().filter_map(|volume| match volume {
            Volume::Claim { name, ephemeral } => Some((&**name, *ephemeral)),
            _ => None,
        })
    }

    /// Whether every plugin must judge both in the same way.
    pub fn is_equal_for_scheduling(&self, other: &Self) -> bool {
        self.metadata.namespace == other.metadata.namespace
            && self.metadata.labels == other.metadata.labels
            && self.scheduler_name == other.scheduler_name
            && self.priority == other.priority
            && self.node_selector == other.node_selector
            && self.required_node_affinity == other.required_node_affinity
            && self.preferred_node_affinity == other.preferred_node_affinity
            && self.tolerations == other.tolerations
            && self.host_ports == other.host_ports
            && self.request == other.request
            && self.images == other.images
            && self.resource_claims == other.resource_claims
    }
}

impl From<WirePod> for Pod {
    fn from(pod: WirePod) -> Self {
        let WirePod { metadata, spec, status } = pod;
        let pod_level = spec.resources.as_ref().map(|resources| &resources.requests);
        let request = Request::of_pod(&spec.containers, &spec.init_containers, pod_level, &spec.overhead);
        let node_affinity = spec.affinity.node_affinity.unwrap_or_default();
        let images = spec.init_containers.iter().chain(&spec.containers);
        let condition = |name: &str| {
            status.conditions.iter().find(|condition| &*condition.type_ == name).cloned().map(Box::new)
        };
        Self {
            node_name: spec.node_name,
            scheduler_name: spec.scheduler_name,
            priority: spec.priority,
            never_preempts: &*spec.preemption_policy == "Never",
            node_selector: spec.node_selector,
            required_node_affinity: node_affinity
                .required_during_scheduling_ignored_during_execution
                .map(Box::new),
            preferred_node_affinity: node_affinity
                .preferred_during_scheduling_ignored_during_execution
                .unwrap_or_default(),
            affinities: Affinities::of(
                spec.affinity.pod_affinity,
                spec.affinity.pod_anti_affinity,
                &metadata,
            ),
            tolerations: spec.tolerations,
            spread: spec
                .topology_spread_constraints
                .into_iter()
                .map(|constraint| SpreadConstraint::of(constraint, &metadata.labels))
                .collect(),
            host_ports: HostPort::of(&spec.containers, &spec.init_containers),
            request,
            images: images.map(|container| container.image.clone()).collect(),
            volumes: spec
                .volumes
                .into_iter()
                .filter_map(|volume| Volume::of(volume, &metadata.name))
                .collect(),
            scheduling_gates: spec.scheduling_gates.into_iter().map(|gate| gate.name).collect(),
            resource_claims: claim::of(spec.resource_claims, &status.resource_claim_statuses),
            finished: matches!(&*status.phase, "Succeeded" | "Failed"),
            scheduled: condition("PodScheduled"),
            disruption: condition("DisruptionTarget"),
            nominated_node: status.nominated_node_name,
            started: moment(status.start_time),
            metadata,
        }
    }
}

knarr_client::cached_by_metadata!(Pod);
