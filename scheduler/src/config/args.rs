//! What each plugin is told.

use std::time::Duration;

use k8s_openapi::api::core::v1::NodeAffinity;

use crate::plugins::{FitArgs, InterPodAffinityArgs, SpreadDefaults, WeightedResource};
use crate::preemption::PreemptionArgs;

#[derive(Debug, Clone)]
pub struct PluginArgs {
    pub fit: FitArgs,
    pub balanced: Vec<WeightedResource>,
    pub inter_pod_affinity: InterPodAffinityArgs,
    pub spread: SpreadDefaults,
    pub added_affinity: NodeAffinity,
    pub preemption: PreemptionArgs,
    /// How long volumes may take to be bound.
    pub bind_timeout: Duration,
}

impl Default for PluginArgs {
    fn default() -> Self {
        Self {
            fit: FitArgs::default(),
            balanced: WeightedResource::defaults(),
            inter_pod_affinity: InterPodAffinityArgs::default(),
            spread: SpreadDefaults::System,
            added_affinity: NodeAffinity::default(),
            preemption: PreemptionArgs::default(),
            bind_timeout: Duration::from_secs(600),
        }
    }
}
