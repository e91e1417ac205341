//! TaintToleration: taints keep pods away that do not tolerate them, and PreferNoSchedule makes a node second best.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Filter, Reason, Score, scale_to_largest};
use crate::event::Events;
use crate::object::Pod;
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

fn untolerated<'a>(
    pod: &'a Pod,
    node: &'a NodeInfo,
    effects: &'a [&'a str],
) -> impl Iterator<Item = &'a Taint> {
    let taints = node.node().map(|node| node.taints.as_slice()).unwrap_or_default();
    let of_effect = taints.iter().filter(|taint| effects.contains(&taint.effect.as_str()));
    of_effect.filter(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

impl Filter for TaintToleration {
    fn retry_on(&self) -> Events {
        Events::NODE_ADD.or(Events::NODE_TAINT).or(Events::POD_UPDATE)
    }

    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
        match untolerated(pod, node, &["NoSchedule", "NoExecute"]).next() {
            Some(_) => vec!["node(s) had untolerated taint(s)".into()],
            None => Vec::new(),
        }
    }
}

impl Score for TaintToleration {
    fn weight(&self) -> i64 {
        3
    }

    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        untolerated(pod, node, &["PreferNoSchedule"]).count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale_to_largest(scores, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
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
            assert!(TaintToleration.reasons_against(&pod(json!({})), node).is_empty());
            assert_eq!(TaintToleration.score(&pod(json!({})), node), 1);
        });
        let node = json!({"spec": {"taints": [{"key": "hard", "effect": "NoExecute"}]}});
        with_node(node, vec![], |node| {
            let against = TaintToleration.reasons_against(&pod(json!({})), node);
            assert_eq!(against, ["node(s) had untolerated taint(s)"]);
        });
        let mut scores = [0, 1, 2];
        TaintToleration.normalize(&mut scores);
        assert_eq!(scores, [100, 50, 0]);
    }
}
