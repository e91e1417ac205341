//! Revision numbers, and the annotations by which a ReplicaSet remembers its Deployment. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::arithmetic::Fence;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotations that belong to one object and are not handed down.
const NOT_COPIED: [&str; 6] = [LAST_APPLIED, REVISION, HISTORY, DESIRED, MOST, ROLLBACK_TO];

/// The longest history kept, in bytes: about a hundred revisions.
const HISTORY_BYTES: usize = 2000;

fn annotation<'a>(set: &'a ReplicaSet, key: &str) -> Option<&'a str> {
    set.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The revision of a set; zero if it has none, `None` if it is not a number.
pub(super) fn of(set: &ReplicaSet) -> Option<i64> {
    annotation(set, REVISION).map_or(Some(0), |revision| revision.parse().ok())
}

pub(super) fn highest<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().filter_map(of).max().unwrap_or(0).max(0)
}

/// The number of replicas the Deployment had when this set was last sized.
pub(super) fn desired_before(set: &ReplicaSet) -> Option<i32> {
    annotation(set, DESIRED)?.parse().ok().filter(|&count| count >= 0)
}

/// The most replicas the Deployment could have when this set was last sized.
pub(super) fn most_before(set: &ReplicaSet) -> Option<i32> {
    annotation(set, MOST)?.parse().ok().filter(|&count| count >= 0)
}

/// Notes the Deployment's size; whether that changed anything.
pub(super) fn note_size(set: &mut ReplicaSet, fence: &Fence) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let desired = put(annotations, DESIRED, fence.replicas.to_string());
    let most = put(annotations, MOST, fence.most().to_string());
    desired || most
}

fn put(annotations: &mut BTreeMap<String, String>, key: &str, value: String) -> bool {
    if annotations.get(key) == Some(&value) {
        return false;
    }
    annotations.insert(key.to_owned(), value);
    true
}

/// Hands the Deployment's annotations down to its new set and gives the set its revision; whether that changed
/// anything. A set that had a lower revision remembers it.
pub(super) fn hand_down(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            changed |= put(annotations, key, value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref() {
        None | Some("") => 0,
        // Somebody wrote what is not a number: leave it alone.
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            Err(_) => return changed,
        },
    };
    if old_number < revision {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        changed = true;
        if let Some(old) = old {
            let history = remember(annotations.get(HISTORY).map_or("", String::as_str), &old);
            annotations.insert(HISTORY.to_owned(), history);
        }
    }
    changed
}

/// Appends to a comma-separated history, dropping the oldest entries when it gets too long.
fn remember(history: &str, revision: &str) -> String {
    let mut entries: Vec<&str> = history.split(',').filter(|entry| !entry.is_empty()).collect();
    entries.push(revision);
    let mut start = 0;
    let mut length = entries.iter().map(|entry| entry.len() + 1).sum::<usize>().saturating_sub(1);
    while length > HISTORY_BYTES && start + 1 < entries.len() {
        length -= entries[start].len() + 1;
        start += 1;
    }
    entries[start..].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_becomes_current_again_remembers_its_revisions() {
        let mut deployment = Deployment::default();
        deployment.metadata.annotations =
            Some([("team".to_owned(), "a".to_owned()), (LAST_APPLIED.to_owned(), "{}".to_owned())].into());
        let mut set = ReplicaSet::default();
        assert!(hand_down(&deployment, &mut set, 1));
        assert_eq!(annotation(&set, "team"), Some("a"));
        assert_eq!(annotation(&set, LAST_APPLIED), None);
        assert!(!hand_down(&deployment, &mut set, 1));
        assert!(hand_down(&deployment, &mut set, 3));
        assert!(hand_down(&deployment, &mut set, 5));
        assert_eq!((of(&set), annotation(&set, HISTORY)), (Some(5), Some("1,3")));
    }

    #[test]
    fn history_does_not_grow_without_end() {
        let mut history = String::new();
        for revision in 1..2000 {
            history = remember(&history, &revision.to_string());
        }
        assert!(history.len() <= HISTORY_BYTES && history.ends_with(",1999"));
    }
}
