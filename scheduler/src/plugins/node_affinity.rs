//! NodeAffinity: node selectors and node affinity, required and preferred.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use super::{Filter, Reason, Score, scale_to_largest};
use crate::event::Events;
use crate::object::{Node, Pod};
use crate::state::NodeInfo;

pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn retry_on(&self) -> Events {
        Events::NODE_ADD.or(Events::NODE_LABEL).or(Events::POD_UPDATE)
    }

    fn reasons_against(&self, pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
        if node.node().is_some_and(|node| required_matches(pod, node)) {
            return Vec::new();
        }
        vec!["node(s) didn't match Pod's node affinity/selector".into()]
    }
}

impl Score for NodeAffinity {
    fn weight(&self) -> i64 {
        2
    }

    fn applies(&self, pod: &Pod) -> bool {
        !pod.preferred_node_affinity.is_empty()
    }

    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let Some(node) = node.node() else { return 0 };
        let preferred = pod.preferred_node_affinity.iter();
        preferred.filter(|term| term_matches(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale_to_largest(scores, false);
    }
}

/// Every label of the node selector, and one of the required terms if there are any.
fn required_matches(pod: &Pod, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        && pod
            .required_node_affinity
            .as_ref()
            .is_none_or(|required| required.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// All of a term's requirements; a term without any matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.get(key).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(&*node.metadata.name);
    expressions.iter().all(|e| requirement_holds(e, label(&e.key)))
        && fields.iter().all(|f| requirement_holds(f, field(&f.key)))
}

fn requirement_holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = || found.is_some_and(|found| values.iter().any(|value| value == found));
    let numbers = || Some((found?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => numbers().is_some_and(|(found, bound)| found > bound),
        "Lt" => numbers().is_some_and(|(found, bound)| found < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, with_node};
    use serde_json::{Value, json};

    fn required(terms: Value) -> Value {
        let required = json!({"nodeSelectorTerms": terms});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
    }

    fn passes(spec: Value) -> bool {
        let node = json!({"metadata": {"labels": {"zone": "x", "size": "8"}}});
        with_node(node, vec![], |node| NodeAffinity.reasons_against(&pod(spec), node).is_empty())
    }

    #[test]
    fn selectors_and_every_operator_are_understood() {
        assert!(passes(json!({"nodeSelector": {"zone": "x"}})));
        assert!(!passes(json!({"nodeSelector": {"zone": "y"}})));
        for (expression, expected) in [
            (json!({"key": "zone", "operator": "In", "values": ["x", "y"]}), true),
            (json!({"key": "zone", "operator": "NotIn", "values": ["x"]}), false),
            (json!({"key": "none", "operator": "NotIn", "values": ["x"]}), true),
            (json!({"key": "zone", "operator": "Exists"}), true),
            (json!({"key": "zone", "operator": "DoesNotExist"}), false),
            (json!({"key": "size", "operator": "Gt", "values": ["7"]}), true),
            (json!({"key": "size", "operator": "Lt", "values": ["8"]}), false),
            (json!({"key": "zone", "operator": "Gt", "values": ["7"]}), false),
        ] {
            let spec = required(json!([{"matchExpressions": [expression.clone()]}]));
            assert_eq!(passes(spec), expected, "{expression}");
        }
    }

    #[test]
    fn terms_are_alternatives_and_an_empty_one_matches_nothing() {
        assert!(!passes(required(json!([{}]))));
        assert!(!passes(required(json!([]))));
        let by_name = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]});
        assert!(passes(required(json!([{}, by_name]))));
    }

    #[test]
    fn preferred_terms_add_their_weights() {
        let term = |zone, weight| {
            let expression = json!({"key": "zone", "operator": "In", "values": [zone]});
            json!({"weight": weight, "preference": {"matchExpressions": [expression]}})
        };
        let preferred = json!([term("x", 7), term("y", 5), term("x", 2)]);
        let spec = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}});
        let node = json!({"metadata": {"labels": {"zone": "x"}}});
        assert_eq!(with_node(node, vec![], |node| NodeAffinity.score(&pod(spec), node)), 9);
    }
}
