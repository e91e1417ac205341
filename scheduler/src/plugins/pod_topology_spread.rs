//! PodTopologySpread: pods of a kind are to be spread evenly over zones, nodes or other domains.

mod filter;
mod score;

use filter::Skews;
use knarr_api::selector::Selector;
use score::Preference;

use super::node_affinity::required_matches;
use super::taint_toleration::tolerates_node;
use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Filter, Plugin, PreFilter, Score};
use crate::object::{Node, Pod, SpreadConstraint, SpreadNodes};
use crate::state::{Counts, Domains, Group, NodeInfo, Question};

pub const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What pods without constraints of their own are held to.
#[derive(Debug, Clone, PartialEq)]
pub enum Defaults {
    /// Upstream's: soft, over nodes and zones.
    System,
    /// The configuration's. Their selectors are found out from a pod's owner and services.
    List(Vec<SpreadConstraint>),
}

pub struct PodTopologySpread {
    defaults: Vec<SpreadConstraint>,
    /// Nodes that lack a label are then not left out.
    system_defaulted: bool,
}

impl PodTopologySpread {
    pub fn new(defaults: Defaults) -> Self {
        match defaults {
            Defaults::System => Self {
                defaults: vec![system_default(HOSTNAME, 3), system_default(ZONE, 5)],
                system_defaulted: true,
            },
            Defaults::List(defaults) => Self { defaults, system_defaulted: false },
        }
    }

    /// The pod's constraints, or those that it gets by default.
    fn constraints(&self, pod: &Pod, cluster: &Cluster, hard: bool) -> Vec<SpreadConstraint> {
        if !pod.spread.is_empty() {
            return pod.spread.iter().filter(|constraint| constraint.hard == hard).cloned().collect();
        }
        let mut defaults: Vec<_> =
            self.defaults.iter().filter(|constraint| constraint.hard == hard).cloned().collect();
        if defaults.is_empty() {
            return defaults;
        }
        let Some(selector) = cluster.objects.default_selector(pod) else { return Vec::new() };
        for constraint in &mut defaults {
            constraint.selector = selector.clone();
        }
        defaults
    }
}

fn system_default(topology_key: &str, max_skew: i64) -> SpreadConstraint {
    SpreadConstraint {
        max_skew,
        min_domains: 1,
        topology_key: topology_key.into(),
        hard: false,
        nodes: SpreadNodes { honor_affinity: true, honor_taints: false },
        selector: Selector::Nothing,
    }
}

/// A constraint with what is known about its domains.
#[derive(Clone)]
struct Measured {
    constraint: SpreadConstraint,
    domains: Domains,
    /// Matching pods per node.
    counts: Counts,
}

impl Measured {
    fn new(constraint: SpreadConstraint, pod: &Pod, cluster: &Cluster) -> Self {
        let selector = match constraint.selector.is_everything() {
            // Upstream counts nothing for the selector that matches everything.
            true => Selector::Nothing,
            false => constraint.selector.clone(),
        };
        let namespaces = Some([pod.metadata.namespace.clone()].into());
        let question = Question { groups: vec![Group { namespaces, selector }], without_leaving: true };
        let domains = cluster.state.domains(&constraint.topology_key);
        Self { constraint, domains, counts: cluster.state.count(&question) }
    }

    fn on_node(&self, slot: usize) -> i64 {
        i64::from(self.counts.get(slot).copied().unwrap_or(0))
    }

    /// Whether the pods of a node count for this constraint.
    fn minds(&self, node: &Node, pod: &Pod) -> bool {
        let policies = self.constraint.nodes;
        (!policies.honor_affinity || required_matches(pod, node))
            && (!policies.honor_taints || tolerates_node(pod, node))
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn events(&self) -> Kinds {
        let pods = Kinds::POD_ADD.or(Kinds::POD_DELETE).or(Kinds::POD_LABEL);
        pods.or(Kinds::NODE_ADD).or(Kinds::NODE_LABEL).or(Kinds::NODE_TAINT)
    }

    fn helps(&self, pod: &Pod, event: &Event, cluster: &Cluster) -> bool {
        let constraints = || self.constraints(pod, cluster, true);
        match &event.subject {
            Subject::Pod { .. } if event.is_about(pod) => true,
            Subject::Pod { old, new } => {
                let counted = |other: &Pod, constraint: &SpreadConstraint| {
                    other.metadata.namespace == pod.metadata.namespace
                        && constraint.selector.matches(&other.metadata.labels)
                };
                constraints().iter().any(|constraint| {
                    let before = old.as_ref().is_some_and(|old| counted(old, constraint));
                    before != new.as_ref().is_some_and(|new| counted(new, constraint))
                })
            }
            Subject::Node { old, new } => {
                let keys: Vec<Box<str>> =
                    constraints().into_iter().map(|constraint| constraint.topology_key).collect();
                let has = |node: &Node| keys.iter().all(|key| node.label(key).is_some());
                match old {
                    None => has(new),
                    Some(old) => {
                        let moved = keys.iter().any(|key| old.label(key) != new.label(key));
                        has(old) != has(new) || (has(new) && (moved || old.taints != new.taints))
                    }
                }
            }
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        let constraints = self.constraints(pod, cluster, true);
        if constraints.is_empty() {
            return PreFilter::Skip;
        }
        let measured = constraints.into_iter().map(|constraint| Measured::new(constraint, pod, cluster));
        PreFilter::Filter(Box::new(Skews::count(pod, measured.collect(), cluster)) as Box<dyn Filter>)
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a Pod,
        cluster: &'a Cluster,
        feasible: &[&NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let constraints = self.constraints(pod, cluster, false);
        if constraints.is_empty() {
            return None;
        }
        let need_all_labels = !pod.spread.is_empty() || !self.system_defaulted;
        let measured =
            constraints.into_iter().map(|constraint| Measured::new(constraint, pod, cluster)).collect();
        Some(Box::new(Preference::count(pod, measured, cluster, feasible, need_all_labels)))
    }
}

/// Whether a node has the labels of all constraints.
fn has_all(slot: usize, constraints: &[Measured]) -> bool {
    constraints.iter().all(|measured| measured.domains.of(slot).is_some())
}

#[cfg(test)]
mod tests;
