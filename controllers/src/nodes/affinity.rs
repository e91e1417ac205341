//! Whether a node is one that a pod asks for. Pure.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use knarr_client::Cached;

/// Whether the node has the labels the pod selects and fits one of the terms it requires.
pub(crate) fn fits(pod: &PodSpec, node: &Node) -> bool {
    let label =
        |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let selected = pod.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value));
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required
            .is_none_or(|required| required.node_selector_terms.iter().any(|term| fits_term(term, node)))
}

/// A term without any requirement fits nothing.
fn fits_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label =
        |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then(|| node.name());
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|requirement| fits_requirement(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| fits_requirement(requirement, field(&requirement.key)))
}

fn fits_requirement(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = || value.is_some_and(|value| values.iter().any(|other| other == value));
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, limit)| value > limit),
        "Lt" => numbers().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_means_what_it_says() {
        let requirement = |operator: &str, values: &[&str]| NodeSelectorRequirement {
            key: "cpus".into(),
            operator: operator.into(),
            values: Some(values.iter().map(|&value| value.to_owned()).collect()),
        };
        for (operator, values, has, lacks) in [
            ("In", &["8", "9"][..], true, false),
            ("NotIn", &["8"], false, true),
            ("Exists", &[], true, false),
            ("DoesNotExist", &[], false, true),
            ("Gt", &["7"], true, false),
            ("Lt", &["8"], false, false),
        ] {
            let requirement = requirement(operator, values);
            assert_eq!(fits_requirement(&requirement, Some("8")), has, "{operator}");
            assert_eq!(fits_requirement(&requirement, None), lacks, "{operator}");
        }
    }
}
