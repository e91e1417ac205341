//! `whenUnsatisfiable: DoNotSchedule`: no domain may have more than `maxSkew` matching pods above the least.

use super::{Measured, has_all};
use crate::cluster::Cluster;
use crate::framework::{Filter, Rejection, Verdict};
use crate::object::Pod;
use crate::state::NodeInfo;

/// What upstream starts its search for the minimum from; without any domain it stays.
const NO_MINIMUM: i64 = i32::MAX as i64;

#[derive(Clone)]
struct Hard {
    measured: Measured,
    /// Matching pods by domain; `None` where no node counts.
    matching: Vec<Option<i64>>,
    least: i64,
    /// 1 if the pod itself will count.
    own: i64,
}

impl Hard {
    fn settle(&mut self) {
        let present = self.matching.iter().flatten();
        let domains = present.clone().count();
        let least = present.min().copied().unwrap_or(NO_MINIMUM);
        self.least = if domains < self.measured.constraint.min_domains { 0 } else { least };
    }
}

pub(super) struct Skews<'a> {
    pod: &'a Pod,
    constraints: Vec<Hard>,
}

impl<'a> Skews<'a> {
    pub fn count(pod: &'a Pod, measured: Vec<Measured>, cluster: &Cluster) -> Self {
        let mut matching: Vec<Vec<Option<i64>>> =
            measured.iter().map(|measured| vec![None; measured.domains.count()]).collect();
        for &slot in cluster.state.order() {
            let Some(node) = cluster.state.nodes()[slot].node() else { continue };
            if !has_all(slot, &measured) {
                continue;
            }
            for (measured, matching) in measured.iter().zip(&mut matching) {
                if let Some(domain) = measured.domains.of(slot)
                    && measured.minds(node, pod)
                {
                    *matching[domain as usize].get_or_insert(0) += measured.on_node(slot);
                }
            }
        }
        let hard = |(measured, matching): (Measured, Vec<Option<i64>>)| {
            let own = i64::from(measured.constraint.selector.matches(&pod.metadata.labels));
            let mut hard = Hard { measured, matching, least: 0, own };
            hard.settle();
            hard
        };
        Self { pod, constraints: measured.into_iter().zip(matching).map(hard).collect() }
    }

    fn change(&mut self, other: &Pod, node: &NodeInfo, by: i64) {
        let Some(place) = node.node() else { return };
        let has_all = self.constraints.iter().all(|hard| hard.measured.domains.of(node.slot).is_some());
        if other.metadata.namespace != self.pod.metadata.namespace || !has_all {
            return;
        }
        for hard in &mut self.constraints {
            let Some(domain) = hard.measured.domains.of(node.slot) else { continue };
            if hard.measured.constraint.selector.matches(&other.metadata.labels)
                && hard.measured.minds(place, self.pod)
            {
                *hard.matching[domain as usize].get_or_insert(0) += by;
                hard.settle();
            }
        }
    }
}

impl Filter for Skews<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        for hard in &self.constraints {
            let Some(domain) = hard.measured.domains.of(node.slot) else {
                return Err(Rejection::unresolvable(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let there = hard.matching[domain as usize].unwrap_or(0);
            if there + hard.own - hard.least > hard.measured.constraint.max_skew {
                return Err(Rejection::unschedulable("node(s) didn't match pod topology spread constraints"));
            }
        }
        Ok(())
    }

    fn add_pod(&mut self, other: &Pod, node: &NodeInfo) {
        self.change(other, node, 1);
    }

    fn remove_pod(&mut self, other: &Pod, node: &NodeInfo) {
        self.change(other, node, -1);
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Self { pod: self.pod, constraints: self.constraints.clone() })
    }
}
