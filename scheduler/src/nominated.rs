//! Pods for which room is being made on a node: others of less importance must leave it to them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::object::Pod;

#[derive(Debug, Default)]
pub struct Nominated {
    by_node: HashMap<Box<str>, Vec<Arc<Pod>>>,
    /// Node by uid.
    nodes: HashMap<Box<str>, Box<str>>,
    revision: u64,
}

impl Nominated {
    /// Notes the pod's node; an empty one takes the note away.
    pub fn set(&mut self, pod: &Arc<Pod>, node: &str) {
        self.remove(&pod.metadata.uid);
        if !node.is_empty() {
            self.revision += 1;
            self.nodes.insert(pod.metadata.uid.clone(), node.into());
            self.by_node.entry(node.into()).or_default().push(pod.clone());
        }
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.nodes.remove(uid) else { return };
        self.revision += 1;
        if let Some(pods) = self.by_node.get_mut(&node) {
            pods.retain(|pod| &*pod.metadata.uid != uid);
            if pods.is_empty() {
                self.by_node.remove(&node);
            }
        }
    }

    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.nodes.get(uid).map(|node| &**node)
    }

    /// Changes with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn on(&self, node: &str) -> &[Arc<Pod>] {
        if self.by_node.is_empty() {
            return &[];
        }
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }
}
