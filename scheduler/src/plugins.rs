//! The rules, one file or folder each, under upstream's names.

mod dynamic_resources;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod scheduling_gates;
mod taint_toleration;
#[cfg(test)]
pub(crate) mod testing;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use std::sync::Arc;

pub use dynamic_resources::{Claims as ResourceClaims, deallocatable as deallocatable_claim};
pub use inter_pod_affinity::InterPodAffinityArgs;
pub use node_affinity::selector_matches;
pub use node_resources_fit::{FitArgs, ScoringStrategy, ShapePoint, StrategyType, WeightedResource};
pub use pod_topology_spread::Defaults as SpreadDefaults;

use crate::config::PluginArgs;
use crate::framework::Plugin;

/// The one whose work is also done before a pod is bound; see [`crate::volumes`].
pub const VOLUME_BINDING: &str = "VolumeBinding";
/// The one that reserves claims before a pod is bound, and might free some when nothing fits.
pub const DYNAMIC_RESOURCES: &str = "DynamicResources";
/// The one that acts when nothing fits; see [`crate::preemption`].
pub const DEFAULT_PREEMPTION: &str = "DefaultPreemption";
/// The order of the queue and the way to bind are always these.
pub const PRIORITY_SORT: &str = "PrioritySort";
pub const DEFAULT_BINDER: &str = "DefaultBinder";

/// A plugin and where it takes part by default.
pub struct Descriptor {
    pub name: &'static str,
    pub pre_enqueues: bool,
    pub filters: bool,
    pub scores: bool,
    pub weight: i64,
    make: fn(&PluginArgs) -> Arc<dyn Plugin>,
}

const fn filter(name: &'static str, make: fn(&PluginArgs) -> Arc<dyn Plugin>) -> Descriptor {
    Descriptor { name, pre_enqueues: false, filters: true, scores: false, weight: 0, make }
}

const fn score(name: &'static str, weight: i64, make: fn(&PluginArgs) -> Arc<dyn Plugin>) -> Descriptor {
    Descriptor { name, pre_enqueues: false, filters: false, scores: true, weight, make }
}

const fn both(name: &'static str, weight: i64, make: fn(&PluginArgs) -> Arc<dyn Plugin>) -> Descriptor {
    Descriptor { name, pre_enqueues: false, filters: true, scores: true, weight, make }
}

/// Default plugins, in upstream's order and with upstream's weights.
pub const PLUGINS: &[Descriptor] = &[
    Descriptor {
        name: "SchedulingGates",
        pre_enqueues: true,
        filters: false,
        scores: false,
        weight: 0,
        make: |_| Arc::new(scheduling_gates::SchedulingGates),
    },
    filter("NodeUnschedulable", |_| Arc::new(node_unschedulable::NodeUnschedulable)),
    filter("NodeName", |_| Arc::new(node_name::NodeName)),
    both("TaintToleration", 3, |_| Arc::new(taint_toleration::TaintToleration)),
    both("NodeAffinity", 2, |args| Arc::new(node_affinity::NodeAffinity::new(args.added_affinity.clone()))),
    filter("NodePorts", |_| Arc::new(node_ports::NodePorts)),
    both("NodeResourcesFit", 1, |args| Arc::new(node_resources_fit::Fit::new(args.fit.clone()))),
    filter("VolumeRestrictions", |_| Arc::new(volume_restrictions::VolumeRestrictions)),
    filter("NodeVolumeLimits", |_| Arc::new(node_volume_limits::NodeVolumeLimits)),
    filter(VOLUME_BINDING, |_| Arc::new(volume_binding::VolumeBinding)),
    filter("VolumeZone", |_| Arc::new(volume_zone::VolumeZone)),
    both("PodTopologySpread", 2, |args| {
        Arc::new(pod_topology_spread::PodTopologySpread::new(args.spread.clone()))
    }),
    both("InterPodAffinity", 2, |args| {
        Arc::new(inter_pod_affinity::InterPodAffinity::new(args.inter_pod_affinity.clone()))
    }),
    both(DYNAMIC_RESOURCES, 2, |_| Arc::new(dynamic_resources::DynamicResources)),
    score("NodeResourcesBalancedAllocation", 1, |args| {
        Arc::new(node_resources_balanced_allocation::BalancedAllocation::new(args.balanced.clone()))
    }),
    score("ImageLocality", 1, |_| Arc::new(image_locality::ImageLocality)),
];

pub fn by_name(name: &str, args: &PluginArgs) -> Option<Arc<dyn Plugin>> {
    PLUGINS.iter().find(|plugin| plugin.name == name).map(|plugin| (plugin.make)(args))
}
