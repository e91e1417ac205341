//! What placed pods say of pods to come, with equal terms together: where a thousand replicas keep others away,
//! there is one entry, and on which nodes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::object::{Pod, Term};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Required,
    AntiRequired,
    /// With the weight; those of anti-affinity are negative.
    Preferred(i64),
}

#[derive(Debug)]
pub struct Entry {
    pub term: Arc<Term>,
    pub kind: Kind,
    /// How many pods on a node say so, by its slot.
    pub nodes: HashMap<usize, u32>,
}

#[derive(Debug, Default)]
pub struct Terms {
    entries: HashMap<(Kind, Box<str>), Entry>,
}

impl Terms {
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn pod_added(&mut self, slot: usize, pod: &Pod) {
        for (kind, term) in said(pod) {
            let key = (kind, term.identity.clone());
            let entry = self.entries.entry(key);
            let entry = entry.or_insert_with(|| Entry { term: term.clone(), kind, nodes: HashMap::new() });
            *entry.nodes.entry(slot).or_default() += 1;
        }
    }

    pub fn pod_removed(&mut self, slot: usize, pod: &Pod) {
        for (kind, term) in said(pod) {
            let key = (kind, term.identity.clone());
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if let Some(count) = entry.nodes.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    entry.nodes.remove(&slot);
                }
            }
            if entry.nodes.is_empty() {
                self.entries.remove(&key);
            }
        }
    }
}

fn said(pod: &Pod) -> impl Iterator<Item = (Kind, &Arc<Term>)> {
    pod.affinities.iter().flat_map(|affinities| {
        let required = affinities.required.iter().map(|term| (Kind::Required, term));
        let anti = affinities.anti_required.iter().map(|term| (Kind::AntiRequired, term));
        let preferred = affinities.preferred.iter().map(|(weight, term)| (Kind::Preferred(*weight), term));
        required.chain(anti).chain(preferred)
    })
}
