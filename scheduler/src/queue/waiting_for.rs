//! Who waits for which kind of event: what happens a thousand times a second is told to those that mind it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::Kinds;

#[derive(Debug)]
pub struct WaitingFor {
    by_kind: Vec<BTreeSet<Arc<str>>>,
}

impl Default for WaitingFor {
    fn default() -> Self {
        Self { by_kind: vec![BTreeSet::new(); Kinds::COUNT] }
    }
}

impl WaitingFor {
    pub fn add(&mut self, uid: &Arc<str>, kinds: Kinds) {
        for kind in kinds.indices() {
            self.by_kind[kind].insert(uid.clone());
        }
    }

    pub fn remove(&mut self, uid: &Arc<str>, kinds: Kinds) {
        for kind in kinds.indices() {
            self.by_kind[kind].remove(uid);
        }
    }

    /// Those that wait for any of these, each once.
    pub fn whom(&self, kinds: Kinds) -> Vec<Arc<str>> {
        let mut sets = kinds.indices().map(|kind| &self.by_kind[kind]).filter(|set| !set.is_empty());
        match (sets.next(), sets.next()) {
            (None, _) => Vec::new(),
            (Some(only), None) => only.iter().cloned().collect(),
            _ => {
                let all = kinds.indices().flat_map(|kind| &self.by_kind[kind]);
                all.collect::<BTreeSet<_>>().into_iter().cloned().collect()
            }
        }
    }
}
