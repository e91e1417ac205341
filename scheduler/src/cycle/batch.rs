//! Equal pods from one evaluation: what was found for one holds for the next, except on the node that got a pod.
//! So a thousand replicas cost one look at the nodes and a thousand looks at a heap.

use std::collections::BinaryHeap;
use std::sync::Arc;

use knarr_api::time::SharedRandom;

use super::judge::Judge;
use super::scoring::{Scoring, Total};
use crate::cluster::Cluster;
use crate::object::Pod;
use crate::profile::Profile;
use crate::state::NodeInfo;

pub struct Batch {
    pod: Arc<Pod>,
    revisions: [u64; 3],
    /// Best first; chance decides among equals.
    nodes: BinaryHeap<Entry>,
    /// The node that got the last pod: its sum is not known yet.
    chosen: Entry,
    /// How many more pods are served, so that other nodes are looked at in time.
    left: usize,
}

/// Sum, chance, slot, and the part of the sum that stays.
type Entry = (i64, u64, usize, i64);

/// Whether nothing that this pod minds changes with the pods that are placed like it.
pub fn can_begin_with(pod: &Pod, cluster: &Cluster) -> bool {
    pod.affinities.is_none()
        && pod.spread.is_empty()
        && pod.claims().next().is_none()
        && pod.resource_claims.is_empty()
        && pod.nominated_node.is_empty()
        && cluster.objects.default_selector(pod).is_none()
}

fn revisions(cluster: &Cluster) -> [u64; 3] {
    [cluster.state.revision(), cluster.nominated.revision(), cluster.objects.revision()]
}

impl Batch {
    pub fn new(
        pod: Arc<Pod>,
        cluster: &Cluster,
        feasible: &[&NodeInfo],
        totals: &[Total],
        chosen: usize,
        random: &SharedRandom,
    ) -> Self {
        let entry =
            |at: usize| (totals[at].sum(), random.next_u64(), feasible[at].slot, totals[at].fixed) as Entry;
        let others = (0..feasible.len()).filter(|at| *at != chosen);
        Self {
            pod,
            revisions: revisions(cluster),
            nodes: others.map(entry).collect(),
            chosen: entry(chosen),
            left: feasible.len(),
        }
    }

    pub fn serves(&self, pod: &Pod, cluster: &Cluster) -> bool {
        self.left > 0
            && self.revisions == revisions(cluster)
            && can_begin_with(pod, cluster)
            && self.pod.is_equal_for_scheduling(pod)
    }

    /// The best node now; `None` if all are full.
    pub fn next(
        &mut self,
        pod: &Pod,
        judge: &Judge<'_>,
        profile: &Profile,
        cluster: &Cluster,
    ) -> Option<Arc<str>> {
        self.left -= 1;
        let scoring = Scoring::new(pod, profile, cluster, &[]);
        let (_, chance, slot, fixed) = self.chosen;
        let sum = fixed + scoring.by_load(&cluster.state.nodes()[slot]);
        // A new chance, or the same node would win again among equals.
        self.nodes.push((sum, chance.rotate_left(17), slot, fixed));
        let mut spare = None;
        while let Some(entry) = self.nodes.pop() {
            let node = &cluster.state.nodes()[entry.2];
            if judge.allows(node, &mut spare).is_ok() {
                self.chosen = entry;
                return Some(node.name.clone());
            }
        }
        None
    }
}
