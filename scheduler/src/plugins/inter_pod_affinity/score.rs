//! Preferred affinity and anti-affinity, of the incoming pod and of those that are there.

use std::collections::HashMap;

use super::{InterPodAffinityArgs, group, question, said};
use crate::cluster::Cluster;
use crate::framework::{MAX_NODE_SCORE, Score};
use crate::object::Pod;
use crate::state::{Domains, NodeInfo, TermKind};

/// Weights of the domains of one topology key.
struct Pull {
    domains: Domains,
    weights: Vec<i64>,
}

#[derive(Default)]
pub(super) struct Attraction {
    pulls: Vec<Pull>,
}

impl Attraction {
    /// `None` when nothing draws the pod anywhere.
    pub fn count(pod: &Pod, args: &InterPodAffinityArgs, cluster: &Cluster) -> Option<Self> {
        let own = said(pod);
        if own.preferred.is_empty()
            && (args.ignore_preferred_terms_of_existing_pods || cluster.state.terms().is_empty())
        {
            return None;
        }
        let mut pulls: HashMap<&str, Pull> = HashMap::new();
        for (weight, term) in &own.preferred {
            let counts = cluster.state.count(&question(vec![group(term, cluster)]));
            let pull = pull_of(&mut pulls, &term.topology_key, cluster);
            for (slot, pods) in counts.iter().enumerate().filter(|(_, pods)| **pods > 0) {
                pull.add(slot, weight * i64::from(*pods));
            }
        }
        let labels = cluster.objects.namespace_labels(&pod.metadata.namespace);
        for entry in cluster.state.terms().entries() {
            let weight = match entry.kind {
                TermKind::Required => args.hard_pod_affinity_weight,
                TermKind::AntiRequired => 0,
                TermKind::Preferred(weight) => weight,
            };
            if weight == 0 || !entry.term.matches(&pod.metadata.namespace, &pod.metadata.labels, labels) {
                continue;
            }
            let pull = pull_of(&mut pulls, &entry.term.topology_key, cluster);
            for (slot, pods) in &entry.nodes {
                pull.add(*slot, weight * i64::from(*pods));
            }
        }
        let pulls: Vec<Pull> = pulls.into_values().collect();
        (!pulls.is_empty()).then_some(Self { pulls })
    }
}

fn pull_of<'m, 'k>(pulls: &'m mut HashMap<&'k str, Pull>, key: &'k str, cluster: &Cluster) -> &'m mut Pull {
    pulls.entry(key).or_insert_with(|| {
        let domains = cluster.state.domains(key);
        Pull { weights: vec![0; domains.count()], domains }
    })
}

impl Pull {
    fn add(&mut self, slot: usize, weight: i64) {
        if let Some(domain) = self.domains.of(slot) {
            self.weights[domain as usize] += weight;
        }
    }
}

impl Score for Attraction {
    fn score(&self, node: &NodeInfo) -> i64 {
        let pulls = self.pulls.iter();
        pulls.filter_map(|pull| pull.domains.of(node.slot).map(|domain| pull.weights[domain as usize])).sum()
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = match range {
                0 => 0,
                range => (MAX_NODE_SCORE as f64 * ((*score - least) as f64 / range as f64)) as i64,
            };
        }
    }
}
