//! TaintToleration: taints keep pods away that do not tolerate them, and PreferNoSchedule makes a node second best.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::cluster::Cluster;
use crate::event::{Event, Kinds};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Score, Verdict, scale_to_largest};
use crate::object::{Node, Pod};
use crate::state::NodeInfo;

pub struct TaintToleration;

/// An empty effect or key of a toleration means all of them.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        "Exists" => true,
        _ => false,
    }
}

/// Whether no NoSchedule or NoExecute taint keeps the pod away.
pub fn tolerates_node(pod: &Pod, node: &Node) -> bool {
    let mut hard = node.taints.iter().filter(|taint| matches!(&*taint.effect, "NoSchedule" | "NoExecute"));
    hard.all(|taint| pod.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD.or(Kinds::NODE_TAINT).or(Kinds::POD_TOLERATION)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        let was_tolerated = event.old_node().is_some_and(|node| tolerates_node(pod, node));
        event.new_node().is_none_or(|node| !was_tolerated && tolerates_node(pod, node))
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Cluster) -> PreFilter<'a> {
        PreFilter::filter(Hard(pod))
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Cluster, _: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        let soft = |toleration: &&Toleration| {
            matches!(toleration.effect.as_deref(), None | Some("" | "PreferNoSchedule"))
        };
        Some(Box::new(Soft(pod.tolerations.iter().filter(soft).collect())))
    }
}

struct Hard<'a>(&'a Pod);

impl Filter for Hard<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if node.node().is_none_or(|node| tolerates_node(self.0, node)) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) had untolerated taint(s)"))
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Self(self.0))
    }
}

/// Tolerations that can tolerate PreferNoSchedule.
struct Soft<'a>(Vec<&'a Toleration>);

impl Score for Soft<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let taints = node.node().map(|node| node.taints.as_slice()).unwrap_or_default();
        let soft = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !self.0.iter().any(|toleration| tolerates(toleration, taint))).count() as i64
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        scale_to_largest(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{judge, pod, score, with_node};
    use serde_json::json;

    #[test]
    fn tolerations_match_by_key_value_effect_and_operator() {
        let taint =
            Taint { key: "k".into(), value: Some("v".into()), effect: "NoSchedule".into(), time_added: None };
        for (toleration, expected) in [
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true),
        ] {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&parsed, &taint), expected, "{toleration}");
        }
    }

    #[test]
    fn hard_taints_keep_away_and_soft_ones_only_count() {
        let node = json!({"spec": {"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}});
        with_node(node, vec![], |node| {
            assert!(judge(&TaintToleration, &pod(json!({})), node).is_empty());
            assert_eq!(score(&TaintToleration, &pod(json!({})), node), Some(1));
        });
        let node = json!({"spec": {"taints": [{"key": "hard", "effect": "NoExecute"}]}});
        with_node(node, vec![], |node| {
            let against = judge(&TaintToleration, &pod(json!({})), node);
            assert_eq!(against, ["node(s) had untolerated taint(s)"]);
        });
        let mut scores = [0, 1, 2];
        scale_to_largest(&mut scores, true);
        assert_eq!(scores, [100, 50, 0]);
    }
}
