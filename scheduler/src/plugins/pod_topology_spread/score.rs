//! `whenUnsatisfiable: ScheduleAnyway`: domains with fewer matching pods are better.

use super::{HOSTNAME, Measured, has_all};
use crate::cluster::Cluster;
use crate::framework::{MAX_NODE_SCORE, Score};
use crate::object::Pod;
use crate::state::NodeInfo;

struct Soft {
    measured: Measured,
    /// Matching pods by domain; `None` where no feasible node is. Empty for hostnames, which are counted by node.
    matching: Vec<Option<i64>>,
    /// Few large domains and many small ones are to count alike.
    weight: f64,
}

pub(super) struct Preference {
    constraints: Vec<Soft>,
    need_all_labels: bool,
}

impl Preference {
    pub fn count(
        pod: &Pod,
        measured: Vec<Measured>,
        cluster: &Cluster,
        feasible: &[&NodeInfo],
        need_all_labels: bool,
    ) -> Self {
        let counted = |slot: usize| !need_all_labels || has_all(slot, &measured);
        let considered: Vec<usize> =
            feasible.iter().map(|node| node.slot).filter(|slot| counted(*slot)).collect();
        let mut matching: Vec<Vec<Option<i64>>> =
            measured.iter().map(|measured| of_domains(measured, &considered)).collect();
        let by_domain: Vec<usize> = (0..measured.len()).filter(|at| !matching[*at].is_empty()).collect();
        if !by_domain.is_empty() {
            for &slot in cluster.state.order().iter().filter(|slot| counted(**slot)) {
                let Some(node) = cluster.state.nodes()[slot].node() else { continue };
                for &at in &by_domain {
                    let Some(domain) = measured[at].domains.of(slot) else { continue };
                    if let Some(pods) = &mut matching[at][domain as usize]
                        && measured[at].minds(node, pod)
                    {
                        *pods += measured[at].on_node(slot);
                    }
                }
            }
        }
        let soft = |(measured, matching): (Measured, Vec<Option<i64>>)| {
            let domains = match &*measured.constraint.topology_key {
                HOSTNAME => considered.len(),
                _ => matching.iter().flatten().count(),
            };
            Soft { measured, matching, weight: ((domains + 2) as f64).ln() }
        };
        let constraints = measured.clone().into_iter().zip(matching).map(soft).collect();
        Self { constraints, need_all_labels }
    }

    fn ignores(&self, slot: usize) -> bool {
        self.need_all_labels && self.constraints.iter().any(|soft| soft.measured.domains.of(slot).is_none())
    }
}

fn of_domains(measured: &Measured, considered: &[usize]) -> Vec<Option<i64>> {
    if &*measured.constraint.topology_key == HOSTNAME {
        return Vec::new();
    }
    let mut matching = vec![None; measured.domains.count()];
    for domain in considered.iter().filter_map(|slot| measured.domains.of(*slot)) {
        matching[domain as usize] = Some(0);
    }
    matching
}

impl Score for Preference {
    fn score(&self, node: &NodeInfo) -> i64 {
        if self.ignores(node.slot) {
            return 0;
        }
        let mut score = 0.0;
        for soft in &self.constraints {
            let Some(domain) = soft.measured.domains.of(node.slot) else { continue };
            let pods = match soft.matching.get(domain as usize) {
                Some(pods) => pods.unwrap_or(0),
                None => soft.measured.on_node(node.slot),
            };
            score += pods as f64 * soft.weight + (soft.measured.constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let kept = || nodes.iter().map(|node| !self.ignores(node.slot));
        let considered = || scores.iter().zip(kept()).filter(|(_, kept)| *kept).map(|(score, _)| *score);
        let (least, most) = (considered().min().unwrap_or(i64::MAX), considered().max().unwrap_or(0));
        for (score, kept) in scores.iter_mut().zip(kept()) {
            *score = match most {
                _ if !kept => 0,
                0 => MAX_NODE_SCORE,
                most => MAX_NODE_SCORE * (most + least - *score) / most,
            };
        }
    }
}
