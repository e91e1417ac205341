//! The cluster as the scheduler sees it: nodes, the pods on them, and what those use, kept up change by change.

mod node_info;

use std::collections::HashMap;
use std::sync::Arc;

pub use node_info::NodeInfo;

use crate::event::Events;
use crate::object::{Node, Pod};

/// Where a pod counts.
#[derive(Debug)]
struct Placed {
    pod: Arc<Pod>,
    node: Arc<str>,
    /// Decided by us and not confirmed by the API server yet.
    assumed: bool,
}

#[derive(Debug, Default)]
pub struct State {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<Arc<str>, usize>,
    /// By uid.
    pods: HashMap<Box<str>, Placed>,
    /// Nodes that exist; `nodes` also has those that only pods speak of.
    existing: usize,
}

impl State {
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn existing_nodes(&self) -> usize {
        self.existing
    }

    pub fn node_added_or_updated(&mut self, node: Arc<Node>) -> Events {
        let info = self.entry(&node.metadata.name);
        let happened = info.set_node(Some(node));
        self.existing += usize::from(happened == Events::NODE_ADD);
        happened
    }

    pub fn node_deleted(&mut self, name: &str) {
        if let Some(&at) = self.by_name.get(name) {
            self.existing -= usize::from(self.nodes[at].exists());
            self.nodes[at].set_node(None);
            self.drop_if_empty(at);
        }
    }

    /// A pod that has a node, as the API server shows it. Gives what it may make room for.
    pub fn pod_placed(&mut self, pod: Arc<Pod>) -> Events {
        if pod.finished {
            return self.pod_removed(&pod.metadata.uid);
        }
        let shrunk = self.remove(&pod.metadata.uid).is_some_and(|before| {
            let (was, is) = (&before.pod.request.exact, &pod.request.exact);
            was.milli_cpu > is.milli_cpu || was.memory > is.memory || before.node.as_ref() != &*pod.node_name
        });
        let node = pod.node_name.clone();
        self.insert(pod, &node, false);
        if shrunk { Events::POD_DELETE } else { Events::default() }
    }

    pub fn pod_removed(&mut self, uid: &str) -> Events {
        if self.remove(uid).is_some() { Events::POD_DELETE } else { Events::default() }
    }

    /// Counts a pod on the node we chose for it.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove(&pod.metadata.uid);
        self.insert(pod, node, true);
    }

    /// The binding failed: takes the pod off again, unless the API server has shown it on a node meanwhile.
    pub fn forget(&mut self, uid: &str) -> Events {
        if self.pods.get(uid).is_some_and(|placed| placed.assumed) {
            self.pod_removed(uid)
        } else {
            Events::default()
        }
    }

    fn insert(&mut self, pod: Arc<Pod>, node: &str, assumed: bool) {
        let info = self.entry(node);
        info.add_pod(&pod);
        let node = info.name.clone();
        self.pods.insert(pod.metadata.uid.clone(), Placed { pod, node, assumed });
    }

    fn remove(&mut self, uid: &str) -> Option<Placed> {
        let placed = self.pods.remove(uid)?;
        if let Some(&at) = self.by_name.get(&placed.node) {
            self.nodes[at].remove_pod(&placed.pod);
            self.drop_if_empty(at);
        }
        Some(placed)
    }

    fn entry(&mut self, name: &str) -> &mut NodeInfo {
        let at = match self.by_name.get(name) {
            Some(&at) => at,
            None => {
                let name: Arc<str> = name.into();
                self.nodes.push(NodeInfo::new(name.clone()));
                self.by_name.insert(name, self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        &mut self.nodes[at]
    }

    fn drop_if_empty(&mut self, at: usize) {
        if self.nodes[at].exists() || self.nodes[at].pod_count() > 0 {
            return;
        }
        let gone = self.nodes.swap_remove(at);
        self.by_name.remove(&gone.name);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str) -> Arc<Node> {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "4", "pods": "10"}}});
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn pod(uid: &str, node: &str, cpu: &str, phase: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn used(state: &State, node: &str) -> (i64, usize) {
        let info = state.nodes().iter().find(|info| &*info.name == node).expect("known");
        (info.requested.milli_cpu, info.pod_count())
    }

    #[test]
    fn what_pods_use_follows_every_change() {
        let mut state = State::default();
        assert_eq!(state.node_added_or_updated(node("a")), Events::NODE_ADD);
        assert!(state.pod_placed(pod("1", "a", "1", "Running")).is_empty());
        assert!(state.pod_placed(pod("1", "a", "2", "Running")).is_empty());
        assert_eq!(used(&state, "a"), (2_000, 1));
        assert_eq!(state.pod_placed(pod("1", "a", "1", "Running")), Events::POD_DELETE);
        assert_eq!(state.pod_placed(pod("1", "a", "1", "Succeeded")), Events::POD_DELETE);
        assert_eq!(used(&state, "a"), (0, 0));
        assert!(state.pod_removed("1").is_empty());
    }

    #[test]
    fn an_assumed_pod_counts_until_forgotten_but_not_once_confirmed() {
        let mut state = State::default();
        state.node_added_or_updated(node("a"));
        state.assume(pod("1", "", "1", "Pending"), "a");
        assert_eq!(used(&state, "a"), (1_000, 1));
        state.pod_placed(pod("1", "a", "1", "Pending"));
        assert_eq!(used(&state, "a"), (1_000, 1));
        assert!(state.forget("1").is_empty());
        assert_eq!(used(&state, "a"), (1_000, 1));
        state.assume(pod("2", "", "1", "Pending"), "a");
        assert_eq!(state.forget("2"), Events::POD_DELETE);
        assert_eq!(used(&state, "a"), (1_000, 1));
    }

    #[test]
    fn pods_may_come_before_their_node_and_stay_after_it() {
        let mut state = State::default();
        state.pod_placed(pod("1", "b", "1", "Running"));
        assert_eq!((state.existing_nodes(), state.nodes().len()), (0, 1));
        state.node_added_or_updated(node("a"));
        state.node_added_or_updated(node("b"));
        assert_eq!(used(&state, "b"), (1_000, 1));
        state.node_deleted("b");
        assert_eq!((state.existing_nodes(), state.nodes().len()), (1, 2));
        state.pod_removed("1");
        assert_eq!(state.nodes().len(), 1);
        state.node_deleted("a");
        assert!(state.nodes().is_empty());
    }
}
