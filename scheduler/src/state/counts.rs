//! How many pods on each node match a question, kept up as pods come and go: rules of spread and affinity ask the
//! same few questions again and again, and get their answers without looking at pods.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use knarr_api::selector::Selector;

use super::NodeInfo;
use crate::object::{Pod, written};

/// More questions than these are not kept; those that were not asked for longest go first.
const CAPACITY: usize = 128;

/// Pods of some namespaces with some labels.
#[derive(Debug, Clone)]
pub struct Group {
    /// `None` stands for all.
    pub namespaces: Option<BTreeSet<Box<str>>>,
    pub selector: Selector,
}

impl Group {
    pub fn has(&self, pod: &Pod) -> bool {
        let namespace = &pod.metadata.namespace;
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(namespace))
            && self.selector.matches(&pod.metadata.labels)
    }

    fn identity(&self, into: &mut String) {
        match &self.namespaces {
            None => into.push('*'),
            Some(namespaces) => namespaces.iter().for_each(|name| {
                into.push_str(name);
                into.push(',');
            }),
        }
        into.push(';');
        into.push_str(&written(&self.selector));
        into.push('\n');
    }
}

/// Pods that are in each of the groups.
#[derive(Debug, Clone)]
pub struct Question {
    pub groups: Vec<Group>,
    /// Do not count pods that are being deleted.
    pub without_leaving: bool,
}

impl Question {
    pub fn counts(&self, pod: &Pod) -> bool {
        !(self.without_leaving && pod.metadata.deletion_timestamp.is_some())
            && self.groups.iter().all(|group| group.has(pod))
    }

    fn identity(&self) -> String {
        let mut identity = if self.without_leaving { "1" } else { "0" }.to_owned();
        self.groups.iter().for_each(|group| group.identity(&mut identity));
        identity
    }
}

/// Matching pods by the slot of their node.
pub type Counts = Arc<Vec<u32>>;

#[derive(Debug)]
struct Kept {
    question: Question,
    counts: Counts,
    asked: u64,
}

impl Kept {
    fn change(&mut self, slot: usize, pod: &Pod, by: i32) {
        if !self.question.counts(pod) {
            return;
        }
        let counts = Arc::make_mut(&mut self.counts);
        if counts.len() <= slot {
            counts.resize(slot + 1, 0);
        }
        counts[slot] = counts[slot].saturating_add_signed(by);
    }
}

#[derive(Debug, Default)]
pub struct Answers {
    kept: HashMap<String, Kept>,
    clock: u64,
}

impl Answers {
    pub fn ask(&mut self, question: &Question, nodes: &[NodeInfo]) -> Counts {
        self.clock += 1;
        let identity = question.identity();
        if let Some(kept) = self.kept.get_mut(&identity) {
            kept.asked = self.clock;
            return kept.counts.clone();
        }
        if self.kept.len() >= CAPACITY {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.asked);
            if let Some(oldest) = oldest.map(|(identity, _)| identity.clone()) {
                self.kept.remove(&oldest);
            }
        }
        let count = |node: &NodeInfo| node.pods().iter().filter(|pod| question.counts(pod)).count() as u32;
        let counts: Counts = Arc::new(nodes.iter().map(count).collect());
        let kept = Kept { question: question.clone(), counts: counts.clone(), asked: self.clock };
        self.kept.insert(identity, kept);
        counts
    }

    pub fn pod_added(&mut self, slot: usize, pod: &Pod) {
        self.kept.values_mut().for_each(|kept| kept.change(slot, pod, 1));
    }

    pub fn pod_removed(&mut self, slot: usize, pod: &Pod) {
        self.kept.values_mut().for_each(|kept| kept.change(slot, pod, -1));
    }
}
