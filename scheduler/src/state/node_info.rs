//! One node with everything a decision needs of it, summed up.

use std::sync::Arc;

use crate::event::Events;
use crate::object::{HostPort, Node, Pod};
use crate::resource::Amounts;

#[derive(Debug)]
pub struct NodeInfo {
    pub name: Arc<str>,
    node: Option<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    pub requested: Amounts,
    pub nonzero_milli_cpu: i64,
    pub nonzero_memory: i64,
    pub host_ports: Vec<HostPort>,
}

impl NodeInfo {
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            node: None,
            pods: Vec::new(),
            requested: Amounts::default(),
            nonzero_milli_cpu: 0,
            nonzero_memory: 0,
            host_ports: Vec::new(),
        }
    }

    /// `None` while only pods speak of it.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    pub fn exists(&self) -> bool {
        self.node.is_some()
    }

    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// Gives what changed that a waiting pod may care about.
    pub fn set_node(&mut self, node: Option<Arc<Node>>) -> Events {
        let before = std::mem::replace(&mut self.node, node);
        let (before, now) = match (&before, &self.node) {
            (None, Some(_)) => return Events::NODE_ADD,
            (Some(before), Some(now)) => (before, now),
            (_, None) => return Events::default(),
        };
        let mut happened = Events::default();
        if before.allocatable != now.allocatable {
            happened = happened.or(Events::NODE_ALLOCATABLE);
        }
        if before.metadata.labels != now.metadata.labels {
            happened = happened.or(Events::NODE_LABEL);
        }
        if before.taints != now.taints || before.unschedulable != now.unschedulable {
            happened = happened.or(Events::NODE_TAINT);
        }
        happened
    }

    pub fn add_pod(&mut self, pod: &Arc<Pod>) {
        self.requested.add(&pod.request.exact);
        self.nonzero_milli_cpu += pod.request.nonzero_milli_cpu;
        self.nonzero_memory += pod.request.nonzero_memory;
        self.host_ports.extend(pod.host_ports.iter().cloned());
        self.pods.push(pod.clone());
    }

    pub fn remove_pod(&mut self, pod: &Pod) {
        let Some(at) = self.pods.iter().position(|other| other.metadata.uid == pod.metadata.uid) else {
            return;
        };
        self.pods.swap_remove(at);
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
