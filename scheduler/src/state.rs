//! The cluster's nodes and pods as the scheduler sees them, and what follows from them, kept up change by change.

mod counts;
mod node_info;
mod order;
mod terms;
mod topology;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

pub use counts::{Counts, Group, Question};
pub use node_info::NodeInfo;
pub use terms::{Kind as TermKind, Terms};
pub use topology::Domains;

use crate::event::{Event, Kinds};
use crate::object::{Node, Pod};

/// Where a pod counts.
#[derive(Debug)]
struct Placed {
    pod: Arc<Pod>,
    slot: usize,
    /// Decided by us and not confirmed by the API server yet.
    assumed: bool,
}

#[derive(Debug, Default)]
pub struct State {
    /// By slot. Slots of nodes that are gone are used again.
    nodes: Vec<NodeInfo>,
    free: Vec<usize>,
    by_name: HashMap<Arc<str>, usize>,
    /// By uid.
    pods: HashMap<Box<str>, Placed>,
    order: Vec<usize>,
    order_is_stale: bool,
    terms: Terms,
    /// How many pods use a claim, by namespace and name.
    claims: HashMap<(Box<str>, Box<str>), usize>,
    /// How many nodes have an image.
    images: HashMap<Box<str>, usize>,
    /// Questions are asked while the rest is being read.
    topology: RefCell<topology::Topology>,
    answers: RefCell<counts::Answers>,
    /// Counts changes that did not come from decisions.
    revision: u64,
}

impl State {
    /// By slot; those that do not exist are only spoken of by pods, or empty.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    /// The slots of nodes that exist, in the order in which they are to be looked at, as of the last
    /// [`Self::refresh_order`].
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// How many nodes and pods there are, and how many of the pods are not confirmed yet.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let nodes = self.nodes.iter().filter(|node| node.exists()).count();
        (nodes, self.pods.len(), self.pods.values().filter(|placed| placed.assumed).count())
    }

    /// To be called before a decision.
    pub fn refresh_order(&mut self) {
        if self.order_is_stale {
            self.order = order::by_zone_in_turns(&self.nodes);
            self.order_is_stale = false;
        }
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        let node = &self.nodes[*self.by_name.get(name)?];
        node.exists().then_some(node)
    }

    /// Changes with everything that happens to nodes and pods, except decisions and their confirmation.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn domains(&self, key: &str) -> Domains {
        self.topology.borrow_mut().domains(key, &self.nodes)
    }

    pub fn count(&self, question: &Question) -> Counts {
        self.answers.borrow_mut().ask(question, &self.nodes)
    }

    /// Whether a placed pod uses this claim.
    pub fn is_claim_used(&self, namespace: &str, claim: &str) -> bool {
        self.claims.contains_key(&(namespace.into(), claim.into()))
    }

    /// How many nodes have an image.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    fn is_assumed(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|placed| placed.assumed)
    }

    pub fn node_added_or_updated(&mut self, node: Arc<Node>) -> Event {
        let slot = self.slot_of(&node.metadata.name);
        let before = self.nodes[slot].set_node(Some(node.clone()));
        let kinds = node_info::changes(before.as_deref(), &node);
        if before.is_none() || kinds.intersects(Kinds::NODE_LABEL) {
            self.order_is_stale = true;
            self.topology.borrow_mut().node_changed(&self.nodes[slot]);
        }
        let new_images = before.as_ref().is_none_or(|before| before.images != node.images);
        if new_images {
            self.count_images(before.as_deref(), Some(&node));
        }
        if new_images || !kinds.is_empty() {
            self.revision += 1;
        }
        Event::node(kinds, before, node)
    }

    pub fn node_deleted(&mut self, name: &str) {
        self.revision += 1;
        let Some(&slot) = self.by_name.get(name) else { return };
        let before = self.nodes[slot].set_node(None);
        self.count_images(before.as_deref(), None);
        self.order_is_stale = true;
        self.topology.borrow_mut().node_changed(&self.nodes[slot]);
        self.drop_if_empty(slot);
    }

    /// A pod that has a node, as the API server shows it. Gives what it may change for others.
    pub fn pod_placed(&mut self, pod: Arc<Pod>) -> Option<Event> {
        if pod.finished {
            return self.pod_removed(&pod.metadata.uid);
        }
        let node = pod.node_name.clone();
        let Some(before) = self.pods.get(&pod.metadata.uid) else {
            self.revision += 1;
            self.insert(pod.clone(), &node, false);
            return Some(Event::pod(Kinds::POD_ADD, None, Some(pod)));
        };
        let (slot, old, was_assumed) = (before.slot, before.pod.clone(), before.assumed);
        let moved = *self.nodes[slot].name != *node;
        let same = !moved && is_same_load(&old, &pod);
        if !same {
            self.revision += 1;
        }
        if same && !was_assumed && Arc::ptr_eq(&old, &pod) {
            return None;
        }
        if same {
            self.confirm(pod.clone());
        } else {
            self.remove(&pod.metadata.uid);
            self.insert(pod.clone(), &node, false);
        }
        if was_assumed {
            return Some(Event::pod(Kinds::POD_ADD, None, Some(pod)));
        }
        let mut kinds = if moved { Kinds::POD_DELETE } else { Kinds::default() };
        if old.request.exact.exceeds(&pod.request.exact) {
            kinds = kinds.or(Kinds::POD_SCALE_DOWN);
        }
        if old.metadata.labels != pod.metadata.labels {
            kinds = kinds.or(Kinds::POD_LABEL);
        }
        (!kinds.is_empty()).then(|| Event::pod(kinds, Some(old), Some(pod)))
    }

    pub fn pod_removed(&mut self, uid: &str) -> Option<Event> {
        let placed = self.remove(uid)?;
        self.revision += 1;
        Some(Event::pod(Kinds::POD_DELETE, Some(placed.pod), None))
    }

    /// Counts a pod on the node we chose for it.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove(&pod.metadata.uid);
        self.insert(pod, node, true);
    }

    /// The binding failed: takes the pod off again, unless the API server has shown it on a node meanwhile.
    pub fn forget(&mut self, uid: &str) -> Option<Event> {
        if self.is_assumed(uid) { self.pod_removed(uid) } else { None }
    }

    /// The pod as the API server shows it, in place of an equal one.
    fn confirm(&mut self, pod: Arc<Pod>) {
        if let Some(placed) = self.pods.get_mut(&pod.metadata.uid) {
            self.nodes[placed.slot].replace_pod(&pod);
            placed.pod = pod;
            placed.assumed = false;
        }
    }

    fn insert(&mut self, pod: Arc<Pod>, node: &str, assumed: bool) {
        let slot = self.slot_of(node);
        self.nodes[slot].add_pod(&pod);
        self.answers.borrow_mut().pod_added(slot, &pod);
        self.terms.pod_added(slot, &pod);
        for (claim, _) in pod.claims() {
            *self.claims.entry((pod.metadata.namespace.clone(), claim.into())).or_default() += 1;
        }
        self.pods.insert(pod.metadata.uid.clone(), Placed { pod, slot, assumed });
    }

    fn remove(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.pods.remove(uid)?;
        let (pod, slot) = (&placed.pod, placed.slot);
        self.nodes[slot].remove_pod(pod);
        self.answers.borrow_mut().pod_removed(slot, pod);
        self.terms.pod_removed(slot, pod);
        for (claim, _) in pod.claims() {
            let key = (pod.metadata.namespace.clone(), claim.into());
            if let Some(users) = self.claims.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.claims.remove(&key);
                }
            }
        }
        self.drop_if_empty(slot);
        Some(placed)
    }

    fn slot_of(&mut self, name: &str) -> usize {
        if let Some(&slot) = self.by_name.get(name) {
            return slot;
        }
        let name: Arc<str> = name.into();
        let slot = self.free.pop().unwrap_or(self.nodes.len());
        let info = NodeInfo::new(name.clone(), slot);
        if slot == self.nodes.len() {
            self.nodes.push(info);
        } else {
            self.nodes[slot] = info;
        }
        self.by_name.insert(name, slot);
        slot
    }

    fn drop_if_empty(&mut self, slot: usize) {
        let node = &self.nodes[slot];
        if !node.exists() && node.pods().is_empty() && self.by_name.remove(&node.name).is_some() {
            self.free.push(slot);
        }
    }

    fn count_images(&mut self, before: Option<&Node>, now: Option<&Node>) {
        for (name, _) in before.into_iter().flat_map(|node| &node.images) {
            if let Some(count) = self.images.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(name);
                }
            }
        }
        for (name, _) in now.into_iter().flat_map(|node| &node.images) {
            *self.images.entry(name.clone()).or_default() += 1;
        }
    }
}

/// Whether two states of a pod weigh the same for every rule.
fn is_same_load(a: &Pod, b: &Pod) -> bool {
    a.request == b.request
        && a.metadata.labels == b.metadata.labels
        && a.metadata.deletion_timestamp.is_some() == b.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests;
