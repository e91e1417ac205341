//! Topology keys as columns: for each key that a rule uses, which domain every node is in, as small numbers.

use std::collections::HashMap;
use std::sync::Arc;

use super::NodeInfo;

/// The number of a domain within its key; `None` for nodes without the label.
pub type Domain = Option<u32>;

/// The domains of one key. Cheap to clone; a decision keeps its own.
#[derive(Debug, Clone, Default)]
pub struct Domains {
    by_slot: Arc<Vec<Domain>>,
    count: usize,
}

impl Domains {
    pub fn of(&self, slot: usize) -> Domain {
        self.by_slot.get(slot).copied().flatten()
    }

    /// All numbers are below this; not all need be in use.
    pub fn count(&self) -> usize {
        self.count
    }
}

#[derive(Debug, Default)]
struct Column {
    numbers: HashMap<Box<str>, u32>,
    domains: Domains,
}

impl Column {
    fn set(&mut self, slot: usize, value: Option<&str>) {
        let domain = value.map(|value| match self.numbers.get(value) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(value.into(), number);
                number
            }
        });
        self.domains.count = self.numbers.len();
        let by_slot = Arc::make_mut(&mut self.domains.by_slot);
        if by_slot.len() <= slot {
            by_slot.resize(slot + 1, None);
        }
        by_slot[slot] = domain;
    }
}

/// The columns in use. Those of keys that no rule names any more stay: there are only so many labels on nodes.
#[derive(Debug, Default)]
pub struct Topology {
    columns: HashMap<Box<str>, Column>,
}

impl Topology {
    /// The domains of a key; the column is made when it is first asked for.
    pub fn domains(&mut self, key: &str, nodes: &[NodeInfo]) -> Domains {
        if let Some(column) = self.columns.get(key) {
            return column.domains.clone();
        }
        let mut column = Column::default();
        for node in nodes {
            column.set(node.slot, node.label(key));
        }
        let domains = column.domains.clone();
        self.columns.insert(key.into(), column);
        domains
    }

    /// A node's labels are new, or it is gone.
    pub fn node_changed(&mut self, node: &NodeInfo) {
        for (key, column) in &mut self.columns {
            let value = node.label(key);
            column.set(node.slot, value);
        }
    }
}
