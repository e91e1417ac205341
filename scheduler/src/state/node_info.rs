//! One node with everything a decision needs of it, summed up.

use std::sync::Arc;

use crate::event::Kinds;
use crate::object::{HostPort, Node, Pod};
use crate::resource::Amounts;

#[derive(Debug)]
pub struct NodeInfo {
    pub name: Arc<str>,
    /// Its place in [`super::State`], as long as it exists.
    pub slot: usize,
    node: Option<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    pub requested: Amounts,
    pub nonzero_milli_cpu: i64,
    pub nonzero_memory: i64,
    pub host_ports: Vec<HostPort>,
    lowest_priority: Option<i32>,
}

impl NodeInfo {
    pub fn new(name: Arc<str>, slot: usize) -> Self {
        Self {
            name,
            slot,
            node: None,
            pods: Vec::new(),
            requested: Amounts::default(),
            nonzero_milli_cpu: 0,
            nonzero_memory: 0,
            host_ports: Vec::new(),
            lowest_priority: None,
        }
    }

    /// The other's state, in the memory of this one.
    pub fn become_like(&mut self, other: &Self) {
        self.name.clone_from(&other.name);
        self.slot = other.slot;
        self.node.clone_from(&other.node);
        self.pods.clone_from(&other.pods);
        self.requested.clone_from(&other.requested);
        self.nonzero_milli_cpu = other.nonzero_milli_cpu;
        self.nonzero_memory = other.nonzero_memory;
        self.host_ports.clone_from(&other.host_ports);
        self.lowest_priority = other.lowest_priority;
    }

    /// `None` while only pods speak of it.
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    pub fn exists(&self) -> bool {
        self.node.is_some()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_ref().and_then(|node| node.label(key))
    }

    pub fn pods(&self) -> &[Arc<Pod>] {
        &self.pods
    }

    /// Of the pods here.
    pub fn lowest_priority(&self) -> Option<i32> {
        self.lowest_priority
    }

    pub fn set_node(&mut self, node: Option<Arc<Node>>) -> Option<Arc<Node>> {
        std::mem::replace(&mut self.node, node)
    }

    pub fn add_pod(&mut self, pod: &Arc<Pod>) {
        self.requested.add(&pod.request.exact);
        self.nonzero_milli_cpu += pod.request.nonzero_milli_cpu;
        self.nonzero_memory += pod.request.nonzero_memory;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.lowest_priority =
            Some(self.lowest_priority.map_or(pod.priority, |lowest| lowest.min(pod.priority)));
        self.pods.push(pod.clone());
    }

    /// Puts a pod in the place of an earlier state of it that weighs the same.
    pub fn replace_pod(&mut self, pod: &Arc<Pod>) {
        let earlier = self.pods.iter_mut().find(|other| other.metadata.uid == pod.metadata.uid);
        if let Some(earlier) = earlier {
            *earlier = pod.clone();
            self.find_lowest_priority();
        }
    }

    fn find_lowest_priority(&mut self) {
        self.lowest_priority = self.pods.iter().map(|pod| pod.priority).min();
    }

    pub fn remove_pod(&mut self, pod: &Pod) {
        let Some(at) = self.pods.iter().position(|other| other.metadata.uid == pod.metadata.uid) else {
            return;
        };
        let gone = self.pods.swap_remove(at);
        if Some(gone.priority) == self.lowest_priority {
            self.find_lowest_priority();
        }
        self.requested.subtract(&pod.request.exact);
        self.nonzero_milli_cpu -= pod.request.nonzero_milli_cpu;
        self.nonzero_memory -= pod.request.nonzero_memory;
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|taken| taken == port) {
                self.host_ports.swap_remove(at);
            }
        }
    }
}

/// What changed between two states of a node that a waiting pod may care about.
pub fn changes(before: Option<&Node>, now: &Node) -> Kinds {
    let Some(before) = before else { return Kinds::NODE_ADD };
    let mut kinds = Kinds::default();
    if before.allocatable != now.allocatable {
        kinds = kinds.or(Kinds::NODE_ALLOCATABLE);
    }
    if before.metadata.labels != now.metadata.labels {
        kinds = kinds.or(Kinds::NODE_LABEL);
    }
    if before.taints != now.taints || before.unschedulable != now.unschedulable {
        kinds = kinds.or(Kinds::NODE_TAINT);
    }
    kinds
}
