//! A profile: which plugins judge the pods of one scheduler name, in which order, and with which weights.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Enabled, ProfileConfig};
use crate::framework::{Plugin, Verdict};
use crate::object::Pod;
use crate::plugins;
use crate::preemption::PreemptionArgs;

pub struct Profile {
    percentage: u32,
    pre_enqueue: Vec<Arc<dyn Plugin>>,
    filters: Vec<Arc<dyn Plugin>>,
    scores: Vec<(Arc<dyn Plugin>, i64)>,
    preemption: Option<PreemptionArgs>,
    deallocates_claims: bool,
    bind_timeout: Duration,
}

impl Profile {
    /// `percentage` is what counts unless the profile has its own.
    pub fn new(config: &ProfileConfig, percentage: u32) -> Self {
        let named = |enabled: &Enabled| plugins::by_name(&enabled.name, &config.args);
        let all = |enabled: &[Enabled]| enabled.iter().filter_map(named).collect::<Vec<_>>();
        let points = &config.points;
        let scores = points.score.iter();
        let acts = |name: &str| points.post_filter.iter().any(|enabled| enabled.name == name);
        Self {
            percentage: config.percentage_of_nodes_to_score.unwrap_or(percentage),
            pre_enqueue: all(&points.pre_enqueue),
            filters: all(&points.filter),
            scores: scores.filter_map(|enabled| Some((named(enabled)?, enabled.weight))).collect(),
            preemption: acts(plugins::DEFAULT_PREEMPTION).then_some(config.args.preemption),
            deallocates_claims: acts(plugins::DYNAMIC_RESOURCES),
            bind_timeout: config.args.bind_timeout,
        }
    }

    pub fn percentage(&self) -> u32 {
        self.percentage
    }

    /// Whether the pod may be tried at all.
    pub fn pre_enqueue(&self, pod: &Pod) -> Verdict {
        self.pre_enqueue.iter().try_for_each(|plugin| plugin.pre_enqueue(pod))
    }

    pub fn filters(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.filters.iter().map(|plugin| &**plugin)
    }

    pub fn scores(&self) -> impl Iterator<Item = (&dyn Plugin, i64)> {
        self.scores.iter().map(|(plugin, weight)| (&**plugin, *weight))
    }

    pub fn has_scores(&self) -> bool {
        !self.scores.is_empty()
    }

    pub fn preemption(&self) -> Option<PreemptionArgs> {
        self.preemption
    }

    /// Whether claims that nobody uses are thought of when a pod fits nowhere.
    pub fn deallocates_claims(&self) -> bool {
        self.deallocates_claims
    }

    /// How long a pod's volumes may take to be bound; `None` if they are not this profile's to bind.
    pub fn binds_volumes(&self) -> Option<Duration> {
        self.filter(plugins::VOLUME_BINDING).map(|_| self.bind_timeout)
    }

    /// The plugin of this name that filters.
    pub fn filter(&self, name: &str) -> Option<&dyn Plugin> {
        self.filters().find(|plugin| plugin.name() == name)
    }
}
