//! Affinity and anti-affinity between pods, with selectors ready to be matched.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use knarr_api::selector::Selector;
use serde::Deserialize;

use super::{Labels, Meta};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireTerms {
    required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
}

/// Which pods are meant, and what "together" is.
#[derive(Debug)]
pub struct Term {
    pub namespaces: BTreeSet<Box<str>>,
    pub namespace_selector: Selector,
    pub selector: Selector,
    pub topology_key: Box<str>,
    /// All of the above as one text: equal terms have equal texts.
    pub identity: Box<str>,
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Term {
    /// Whether a pod of this namespace and these labels is meant.
    pub fn matches(&self, namespace: &str, labels: &Labels, namespace_labels: &Labels) -> bool {
        (self.namespaces.contains(namespace) || self.namespace_selector.matches(namespace_labels))
            && self.selector.matches(labels)
    }

    fn of(term: PodAffinityTerm, owner: &str) -> Arc<Self> {
        let mut namespaces: BTreeSet<Box<str>> =
            term.namespaces.into_iter().flatten().map(String::into_boxed_str).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(owner.into());
        }
        let namespace_selector = compiled(term.namespace_selector.as_ref());
        let selector = compiled(term.label_selector.as_ref());
        let topology_key = term.topology_key.into_boxed_str();
        let named: Vec<&str> = namespaces.iter().map(|name| &**name).collect();
        let identity = format!(
            "{topology_key};{};{};{}",
            named.join(","),
            written(&namespace_selector),
            written(&selector)
        );
        Arc::new(Self { namespaces, namespace_selector, selector, topology_key, identity: identity.into() })
    }
}

/// An absent selector matches nothing, and so does one that the API server would have refused.
pub(super) fn compiled(selector: Option<&LabelSelector>) -> Selector {
    selector.and_then(|selector| Selector::try_from(selector).ok()).unwrap_or(Selector::Nothing)
}

/// A selector as a text that no other selector has: nothing and everything are both empty otherwise.
pub fn written(selector: &Selector) -> String {
    match selector {
        Selector::Nothing => "-".to_owned(),
        Selector::All(_) => format!("+{selector}"),
    }
}

/// What a pod says of the pods around it.
#[derive(Debug, Default)]
pub struct Affinities {
    pub required: Vec<Arc<Term>>,
    pub anti_required: Vec<Arc<Term>>,
    /// With weights; those of anti-affinity are negative.
    pub preferred: Vec<(i64, Arc<Term>)>,
}

impl Affinities {
    /// `None` for the many pods that say nothing.
    pub(super) fn of(affinity: WireTerms, anti: WireTerms, meta: &Meta) -> Option<Box<Self>> {
        let required = |terms: Vec<PodAffinityTerm>| {
            terms.into_iter().map(|term| Term::of(term, &meta.namespace)).collect::<Vec<_>>()
        };
        let weighted = |terms: Vec<WeightedPodAffinityTerm>, sign: i64| {
            let weigh = move |term: WeightedPodAffinityTerm| {
                (sign * i64::from(term.weight), Term::of(term.pod_affinity_term, &meta.namespace))
            };
            terms.into_iter().map(weigh)
        };
        let mut preferred: Vec<_> =
            weighted(affinity.preferred_during_scheduling_ignored_during_execution, 1).collect();
        preferred.extend(weighted(anti.preferred_during_scheduling_ignored_during_execution, -1));
        let all = Self {
            required: required(affinity.required_during_scheduling_ignored_during_execution),
            anti_required: required(anti.required_during_scheduling_ignored_during_execution),
            preferred,
        };
        let says_nothing =
            all.required.is_empty() && all.anti_required.is_empty() && all.preferred.is_empty();
        (!says_nothing).then(|| Box::new(all))
    }
}
