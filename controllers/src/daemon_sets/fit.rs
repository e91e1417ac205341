//! Which nodes a DaemonSet wants a pod on, and what that pod looks like. Pure.

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{
            Affinity, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
            PodTemplateSpec, Toleration,
        },
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use knarr_client::Cached;

use crate::{
    nodes::{self, affinity, eviction::tolerance::tolerates},
    pods::control::from_template,
    revisions::{REVISION_LABEL, Revisioned},
};

const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

impl Revisioned for DaemonSet {
    const HASH_LABEL: &'static str = REVISION_LABEL;

    fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    fn selector(&self) -> &LabelSelector {
        &self.spec.selector
    }

    fn history_limit(&self) -> Option<i32> {
        self.spec.revision_history_limit
    }
}

/// What a node means for a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// A pod belongs there.
    pub(super) should_run: bool,
    /// A pod that is there may stay.
    pub(super) may_stay: bool,
}

impl Fit {
    pub(super) fn of(set: &DaemonSet, node: &Node) -> Self {
        let no = Self { should_run: false, may_stay: false };
        let Some(mut spec) = set.spec.template.spec.clone() else { return no };
        if spec.node_name.as_ref().is_some_and(|name| !name.is_empty() && name != node.name()) {
            return no;
        }
        if !affinity::fits(&spec, node) {
            return no;
        }
        tolerate(&mut spec);
        let tolerations = spec.tolerations.unwrap_or_default();
        let mut untolerated = nodes::taints(node)
            .iter()
            .filter(|taint| taint.effect != "PreferNoSchedule")
            .filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
            .peekable();
        let should_run = untolerated.peek().is_none();
        Self { should_run, may_stay: !untolerated.any(|taint| taint.effect == "NoExecute") }
    }
}

/// A daemon stays on a node whatever its health.
fn tolerate(spec: &mut PodSpec) {
    const ALWAYS: [(&str, &str); 6] = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    let host_network = spec.host_network.unwrap_or(false).then_some(("network-unavailable", "NoSchedule"));
    let tolerations = spec.tolerations.get_or_insert_default();
    for (name, effect) in ALWAYS.into_iter().chain(host_network) {
        let wanted = Toleration {
            key: Some(format!("node.kubernetes.io/{name}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&wanted) {
            tolerations.push(wanted);
        }
    }
}

/// The set's pod for one node, of the revision with this hash.
pub(super) fn make(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = from_template(&set.spec.template, set);
    let labels = pod.metadata.labels.get_or_insert_default();
    let annotations = set.metadata.annotations.as_ref();
    if let Some(generation) = annotations.and_then(|annotations| annotations.get(GENERATION_ANNOTATION)) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.clone());
    }
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    aim(spec, node);
    pod
}

/// Makes the scheduler put the pod on this node: it still checks that it fits.
fn aim(spec: &mut PodSpec, node: &str) {
    let name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![name]), match_expressions: None };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let required = &mut affinity
        .node_affinity
        .get_or_insert_default()
        .required_during_scheduling_ignored_during_execution;
    *required = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a pod is on or is aimed at.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let name = fields.into_iter().find(|field| field.key == "metadata.name" && field.operator == "In")?;
    name.values.as_ref()?.first().map(String::as_str)
}

pub(super) fn hash(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL)).map_or("", String::as_str)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeSpec, Taint};

    pub(crate) fn node(name: &str, taints: &[(&str, &str)]) -> Node {
        let make = |(key, effect): &(&str, &str)| Taint {
            key: (*key).to_owned(),
            effect: (*effect).to_owned(),
            ..Taint::default()
        };
        let taints = Some(taints.iter().map(make).collect());
        let mut node = Node { spec: Some(NodeSpec { taints, ..NodeSpec::default() }), ..Node::default() };
        node.metadata.name = Some(name.to_owned());
        node
    }

    pub(crate) fn set() -> DaemonSet {
        let mut set = DaemonSet::default();
        set.metadata.name = Some("agent".to_owned());
        set.spec.template.spec = Some(PodSpec::default());
        set
    }

    #[test]
    fn taints_decide_who_may_come_and_who_may_stay() {
        let fit = |taints: &[(&str, &str)]| {
            let fit = Fit::of(&set(), &node("n", taints));
            (fit.should_run, fit.may_stay)
        };
        assert_eq!(fit(&[]), (true, true));
        assert_eq!(fit(&[("node.kubernetes.io/unreachable", "NoExecute")]), (true, true));
        assert_eq!(fit(&[("dedicated", "PreferNoSchedule")]), (true, true));
        assert_eq!(fit(&[("dedicated", "NoSchedule")]), (false, true));
        assert_eq!(fit(&[("dedicated", "NoExecute")]), (false, false));
    }

    #[test]
    fn a_pod_is_aimed_at_its_node() {
        let pod = make(&set(), "n", "hash");
        assert_eq!((target(&pod), hash(&pod)), (Some("n"), "hash"));
    }
}
