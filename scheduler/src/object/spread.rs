//! Topology spread constraints, with selectors ready to be matched.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use knarr_api::selector::{Operator, Requirement, Selector};

use super::Labels;
use super::affinity::compiled;

/// Which nodes count when pods are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpreadNodes {
    /// Only those that the pod's node selector and affinity accept.
    pub honor_affinity: bool,
    /// Only those whose taints the pod tolerates.
    pub honor_taints: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub min_domains: usize,
    pub topology_key: Box<str>,
    /// `DoNotSchedule`, in contrast to `ScheduleAnyway`.
    pub hard: bool,
    pub nodes: SpreadNodes,
    pub selector: Selector,
}

impl SpreadConstraint {
    pub fn of(wire: TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = compiled(wire.label_selector.as_ref());
        if let Selector::All(requirements) = &selector {
            let mut all = requirements.clone();
            all.extend(own_values(&wire.match_label_keys.unwrap_or_default(), labels, requirements));
            selector = Selector::new(all);
        }
        Self {
            max_skew: i64::from(wire.max_skew),
            min_domains: wire.min_domains.and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
            topology_key: wire.topology_key.into_boxed_str(),
            hard: wire.when_unsatisfiable == "DoNotSchedule",
            nodes: SpreadNodes {
                honor_affinity: wire.node_affinity_policy.as_deref() != Some("Ignore"),
                honor_taints: wire.node_taints_policy.as_deref() == Some("Honor"),
            },
            selector,
        }
    }
}

/// The pod's own values of `matchLabelKeys`, as far as the API server has not put them into the selector.
fn own_values(keys: &[String], labels: &Labels, there: &[Requirement]) -> Vec<Requirement> {
    let wanted = keys.iter().filter_map(|key| labels.get(key).map(|value| (key, value)));
    let missing = wanted.filter(|(key, _)| there.iter().all(|requirement| requirement.key() != key.as_str()));
    missing
        .filter_map(|(key, value)| Requirement::new(key, Operator::Equals, vec![value.clone()]).ok())
        .collect()
}
