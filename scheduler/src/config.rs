//! What the scheduler is configured with; names and defaults are KubeSchedulerConfiguration's.

mod args;
mod file;
mod points;

use std::time::Duration;

pub use args::PluginArgs;
pub use file::{ConfigurationError, KubeSchedulerConfiguration};
pub use points::{Enabled, Points};

#[derive(Debug, Clone)]
pub struct Config {
    /// One per scheduler name.
    pub profiles: Vec<ProfileConfig>,
    /// How many of the feasible nodes are scored, in percent; 0 adapts to the cluster's size.
    pub percentage_of_nodes_to_score: u32,
    pub pod_initial_backoff: Duration,
    pub pod_max_backoff: Duration,
    /// Pods that no event made schedulable are tried again after this long.
    pub pod_max_in_unschedulable_pods: Duration,
}

/// How the pods of one `spec.schedulerName` are judged.
#[derive(Debug, Clone)]
pub struct ProfileConfig {
    pub scheduler_name: String,
    /// In place of the one for all.
    pub percentage_of_nodes_to_score: Option<u32>,
    pub points: Points,
    pub args: PluginArgs,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            percentage_of_nodes_to_score: None,
            points: Points::default(),
            args: PluginArgs::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profiles: vec![ProfileConfig::default()],
            percentage_of_nodes_to_score: 0,
            pod_initial_backoff: Duration::from_secs(1),
            pod_max_backoff: Duration::from_secs(10),
            pod_max_in_unschedulable_pods: Duration::from_secs(300),
        }
    }
}
