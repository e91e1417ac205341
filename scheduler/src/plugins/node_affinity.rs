//! NodeAffinity: node selectors and node affinity, required and preferred.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    NodeAffinity as AddedAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PreferredSchedulingTerm,
};

use crate::cluster::Cluster;
use crate::event::{Event, Kinds};
use crate::framework::{Filter, Plugin, PreFilter, Rejection, Score, Verdict, scale_to_largest};
use crate::object::{Node, Pod};
use crate::state::NodeInfo;

/// With what the configuration adds to every pod's own wishes.
#[derive(Default)]
pub struct NodeAffinity {
    added_required: Option<NodeSelector>,
    added_preferred: Vec<PreferredSchedulingTerm>,
}

impl NodeAffinity {
    pub fn new(added: AddedAffinity) -> Self {
        Self {
            added_required: added.required_during_scheduling_ignored_during_execution,
            added_preferred: added.preferred_during_scheduling_ignored_during_execution.unwrap_or_default(),
        }
    }

    fn accepts(&self, pod: &Pod, node: &Node) -> bool {
        self.added_required.as_ref().is_none_or(|added| selector_matches(added, node))
            && required_matches(pod, node)
    }
}

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn events(&self) -> Kinds {
        Kinds::NODE_ADD.or(Kinds::NODE_LABEL)
    }

    fn helps(&self, pod: &Pod, event: &Event, _: &Cluster) -> bool {
        let matched = event.old_node().is_some_and(|node| self.accepts(pod, node));
        event.new_node().is_none_or(|node| !matched && self.accepts(pod, node))
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, _: &'a Cluster) -> PreFilter<'a> {
        let own = pod.required_node_affinity.as_deref();
        if own.is_none() && self.added_required.is_none() && pod.node_selector.is_empty() {
            return PreFilter::Skip;
        }
        let filter = Required { added: self.added_required.as_ref(), pod };
        match own.and_then(names_wanted) {
            None => PreFilter::filter(filter),
            Some(names) if names.is_empty() => {
                let reason = "pod affinity terms conflict";
                PreFilter::Rejected(Rejection::unresolvable(reason))
            }
            Some(names) => PreFilter::Only(names, Box::new(filter)),
        }
    }

    fn pre_score<'a>(&'a self, pod: &'a Pod, _: &'a Cluster, _: &[&NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        if pod.preferred_node_affinity.is_empty() && self.added_preferred.is_empty() {
            return None;
        }
        Some(Box::new(Preferred { added: &self.added_preferred, own: &pod.preferred_node_affinity }))
    }
}

/// The names of the only nodes that any term can mean; `None` if some term is not about names.
fn names_wanted(required: &NodeSelector) -> Option<BTreeSet<Box<str>>> {
    if required.node_selector_terms.is_empty() {
        return None;
    }
    let mut all = BTreeSet::new();
    for term in &required.node_selector_terms {
        let fields = term.match_fields.iter().flatten();
        let named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
        let sets = named.map(|field| {
            field.values.iter().flatten().map(|name| name.as_str().into()).collect::<BTreeSet<Box<str>>>()
        });
        all.extend(sets.reduce(|a, b| a.intersection(&b).cloned().collect())?);
    }
    Some(all)
}

struct Required<'a> {
    added: Option<&'a NodeSelector>,
    pod: &'a Pod,
}

impl Filter for Required<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let Some(node) = node.node() else { return Ok(()) };
        if self.added.is_some_and(|added| !selector_matches(added, node)) {
            return Err(Rejection::unresolvable("node(s) didn't match scheduler-enforced node affinity"));
        }
        if required_matches(self.pod, node) {
            return Ok(());
        }
        Err(Rejection::unresolvable("node(s) didn't match Pod's node affinity/selector"))
    }

    fn fork(&self) -> Box<dyn Filter + '_> {
        Box::new(Self { added: self.added, pod: self.pod })
    }
}

struct Preferred<'a> {
    added: &'a [PreferredSchedulingTerm],
    own: &'a [PreferredSchedulingTerm],
}

impl Score for Preferred<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(node) = node.node() else { return 0 };
        let preferred = self.added.iter().chain(self.own);
        preferred.filter(|term| term_matches(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, _: &[&NodeInfo], scores: &mut [i64]) {
        scale_to_largest(scores, false);
    }
}

/// One of the terms.
pub fn selector_matches(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node))
}

/// Every label of the node selector, and one of the required terms if there are any.
pub fn required_matches(pod: &Pod, node: &Node) -> bool {
    let labels = &node.metadata.labels;
    pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        && pod.required_node_affinity.as_ref().is_none_or(|required| selector_matches(required, node))
}

/// All of a term's requirements; a term without any matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
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
    use crate::plugins::testing::{judge, pod, score, with_node};
    use serde_json::{Value, json};

    fn required(terms: Value) -> Value {
        let required = json!({"nodeSelectorTerms": terms});
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}})
    }

    fn passes(spec: Value) -> bool {
        let node = json!({"metadata": {"labels": {"zone": "x", "size": "8"}}});
        with_node(node, vec![], |node| judge(&NodeAffinity::default(), &pod(spec), node).is_empty())
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
        let sum = with_node(node, vec![], |node| score(&NodeAffinity::default(), &pod(spec), node));
        assert_eq!(sum, Some(9));
    }
}
