//! InterPodAffinity: pods that must, must not, would rather or would rather not be where certain other pods are.

mod filter;
mod score;

use filter::Neighbours;
use knarr_api::selector::Selector;
use score::Attraction;

use crate::cluster::Cluster;
use crate::event::{Event, Kinds, Subject};
use crate::framework::{Plugin, PreFilter, Score};
use crate::object::{Affinities, Node, Pod, Term};
use crate::state::{Group, NodeInfo, Question};

#[derive(Debug, Clone)]
pub struct InterPodAffinityArgs {
    /// How much a placed pod's required affinity draws pods that it means.
    pub hard_pod_affinity_weight: i64,
    /// Only the incoming pod's own preferences count.
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

#[derive(Default)]
pub struct InterPodAffinity {
    args: InterPodAffinityArgs,
}

impl InterPodAffinity {
    pub fn new(args: InterPodAffinityArgs) -> Self {
        Self { args }
    }
}

static NOTHING_SAID: Affinities =
    Affinities { required: Vec::new(), anti_required: Vec::new(), preferred: Vec::new() };

fn said(pod: &Pod) -> &Affinities {
    pod.affinities.as_deref().unwrap_or(&NOTHING_SAID)
}

/// The pods that a term of an incoming pod means, with namespaces that the selector selects now.
fn group(term: &Term, cluster: &Cluster) -> Group {
    let selector = term.selector.clone();
    if term.namespace_selector.is_everything() {
        return Group { namespaces: None, selector };
    }
    let mut namespaces = term.namespaces.clone();
    if term.namespace_selector != Selector::Nothing {
        let all = cluster.objects.namespaces.all();
        let selected = all.filter(|namespace| term.namespace_selector.matches(&namespace.metadata.labels));
        namespaces.extend(selected.map(|namespace| namespace.metadata.name.clone()));
    }
    Group { namespaces: Some(namespaces), selector }
}

/// How many pods on each node are in all these groups.
fn question(groups: Vec<Group>) -> Question {
    Question { groups, without_leaving: false }
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn events(&self) -> Kinds {
        let pods = Kinds::POD_ADD.or(Kinds::POD_LABEL).or(Kinds::POD_DELETE);
        pods.or(Kinds::NODE_ADD).or(Kinds::NODE_LABEL)
    }

    fn helps(&self, pod: &Pod, event: &Event, cluster: &Cluster) -> bool {
        match &event.subject {
            Subject::Pod { .. } if event.is_about(pod) => true,
            Subject::Pod { old, new } => pod_helps(pod, old.as_deref(), new.as_deref(), cluster),
            Subject::Node { old, new } => node_helps(pod, old.as_deref(), new),
            _ => true,
        }
    }

    fn pre_filter<'a>(&'a self, pod: &'a Pod, cluster: &'a Cluster) -> PreFilter<'a> {
        match Neighbours::count(pod, cluster) {
            Some(neighbours) => PreFilter::filter(neighbours),
            None => PreFilter::Skip,
        }
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a Pod,
        cluster: &'a Cluster,
        _: &[&NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        Attraction::count(pod, &self.args, cluster).map(|attraction| Box::new(attraction) as Box<dyn Score>)
    }
}

/// A pod that came where the waiting one wants it, or one that left or changed that kept it away.
fn pod_helps(pod: &Pod, old: Option<&Pod>, new: Option<&Pod>, cluster: &Cluster) -> bool {
    let own = said(pod);
    let means = |terms: &[std::sync::Arc<Term>], other: Option<&Pod>| {
        other.is_some_and(|other| {
            let meta = &other.metadata;
            let labels = cluster.objects.namespace_labels(&meta.namespace);
            terms.iter().any(|term| term.matches(&meta.namespace, &meta.labels, labels))
        })
    };
    let wanted = means(&own.required, new) && !means(&own.required, old);
    let unwanted_left = means(&own.anti_required, old) && !means(&own.anti_required, new);
    let keeps_away = |other: Option<&Pod>| {
        other.is_some_and(|other| {
            let labels = cluster.objects.namespace_labels(&pod.metadata.namespace);
            said(other)
                .anti_required
                .iter()
                .any(|term| term.matches(&pod.metadata.namespace, &pod.metadata.labels, labels))
        })
    };
    wanted || unwanted_left || (keeps_away(old) && !keeps_away(new))
}

/// A node in a domain that the pod's terms speak of, and that was not there before.
fn node_helps(pod: &Pod, old: Option<&Node>, new: &Node) -> bool {
    let own = said(pod);
    let has = |node: &Node, term: &Term| node.label(&term.topology_key).is_some();
    if !own.required.iter().all(|term| has(new, term)) {
        return false;
    }
    let Some(old) = old else { return true };
    let moved = |term: &Term| old.label(&term.topology_key) != new.label(&term.topology_key);
    let terms = own.required.iter().chain(&own.anti_required);
    // A pod may also be kept away by what others say of it, in domains of theirs.
    own.anti_required.is_empty() && own.required.is_empty() || terms.clone().any(|term| moved(term))
}

#[cfg(test)]
mod tests;
