//! All preferences of a profile for one pod.

use crate::cluster::Cluster;
use crate::framework::Score;
use crate::object::Pod;
use crate::profile::Profile;
use crate::state::NodeInfo;

pub struct Scoring<'a> {
    plugins: Vec<(i64, Box<dyn Score + 'a>)>,
}

/// A node's sum, in two parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Total {
    /// What stays the same when a pod comes to the node.
    pub fixed: i64,
    /// What follows the node's load alone.
    pub by_load: i64,
}

impl Total {
    pub fn sum(self) -> i64 {
        self.fixed + self.by_load
    }
}

impl<'a> Scoring<'a> {
    pub fn new(pod: &'a Pod, profile: &'a Profile, cluster: &'a Cluster, feasible: &[&NodeInfo]) -> Self {
        let asked = profile.scores().filter_map(|(plugin, weight)| {
            plugin.pre_score(pod, cluster, feasible).map(|score| (weight, score))
        });
        Self { plugins: asked.collect() }
    }

    pub fn of_all(&self, feasible: &[&NodeInfo]) -> Vec<Total> {
        let mut totals = vec![Total::default(); feasible.len()];
        let mut scores = Vec::with_capacity(feasible.len());
        for (weight, plugin) in &self.plugins {
            scores.clear();
            scores.extend(feasible.iter().map(|node| plugin.score(node)));
            plugin.normalize(feasible, &mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                let part = if plugin.follows_load() { &mut total.by_load } else { &mut total.fixed };
                *part += weight * score;
            }
        }
        totals
    }

    /// The part of a node's sum that follows its load.
    pub fn by_load(&self, node: &NodeInfo) -> i64 {
        let following = self.plugins.iter().filter(|(_, plugin)| plugin.follows_load());
        following.map(|(weight, plugin)| weight * plugin.score(node)).sum()
    }
}
