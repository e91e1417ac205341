//! Choosing the pods to delete.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pods::{deletion_order, node_name};

/// `count` of the `active` pods, the least useful first; `related` are all active pods of the same application,
/// whose crowding on a node makes a pod there less useful.
pub(super) fn choose(
    mut active: Vec<Arc<Pod>>,
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count < active.len() {
        let mut crowds = HashMap::<&str, usize>::new();
        for pod in related {
            *crowds.entry(node_name(pod)).or_default() += 1;
        }
        deletion_order::sort(&mut active, now, |node| crowds.get(node).copied().unwrap_or(0));
        active.truncate(count);
    }
    active
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;

    #[test]
    fn pods_on_crowded_nodes_go_first() {
        let active: Vec<_> = [("a", "n1"), ("b", "n2"), ("c", "n3")]
            .map(|(name, node)| Arc::new(pod(name, node, "Running", Some(1))))
            .into();
        let mut related = active.clone();
        related.push(Arc::new(pod("other", "n2", "Running", Some(1))));
        let chosen = choose(active, &related, 1, Timestamp::from_second(9).unwrap());
        assert_eq!(chosen[0].metadata.name.as_deref(), Some("b"));
    }
}
