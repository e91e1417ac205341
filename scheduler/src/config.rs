//! What the scheduler is configured with; names and defaults are KubeSchedulerConfiguration's.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    /// Pods with this `spec.schedulerName` are ours.
    pub scheduler_name: String,
    /// How many of the feasible nodes are scored, in percent; 0 adapts to the cluster's size.
    pub percentage_of_nodes_to_score: u32,
    pub pod_initial_backoff: Duration,
    pub pod_max_backoff: Duration,
    /// Pods that no event made schedulable are tried again after this long.
    pub pod_max_in_unschedulable_pods: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
            percentage_of_nodes_to_score: 0,
            pod_initial_backoff: Duration::from_secs(1),
            pod_max_backoff: Duration::from_secs(10),
            pod_max_in_unschedulable_pods: Duration::from_secs(300),
        }
    }
}
