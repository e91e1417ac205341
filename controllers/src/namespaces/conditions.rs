//! What a namespace on its way out says about it. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{NamespaceCondition, NamespaceStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::content::Emptied;

/// Type, and reason and message while all is well, in the order they are written.
const FINE: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// Brings the conditions up to date; whether any changed.
pub(super) fn update(status: &mut NamespaceStatus, emptied: &Emptied, now: Timestamp) -> bool {
    let mut changed = false;
    for (kind, reason, message) in FINE {
        let trouble = trouble(kind, emptied);
        let value = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or_else(|| (reason, message.to_owned()));
        changed |= set(status, kind, value, reason, message, now);
    }
    changed
}

fn set(
    status: &mut NamespaceStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == kind);
    let condition = match known {
        Some(index) => &mut conditions[index],
        None => {
            conditions.push(NamespaceCondition { type_: kind.to_owned(), ..NamespaceCondition::default() });
            conditions.last_mut().expect("just added")
        }
    };
    if condition.status == value
        && condition.reason.as_deref() == Some(reason)
        && condition.message.as_deref() == Some(&message)
    {
        return false;
    }
    if condition.status != value {
        condition.last_transition_time = Some(Time(now));
        value.clone_into(&mut condition.status);
    }
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message);
    true
}

fn trouble(kind: &str, emptied: &Emptied) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionDiscoveryFailure" => Some(("DiscoveryFailed", emptied.undiscovered.clone()?)),
        "NamespaceDeletionContentFailure" => content_failure(emptied),
        // While the pods go nothing is known about the rest.
        "NamespaceContentRemaining" if !emptied.pods_first => {
            let list =
                list(&emptied.remaining, |name, count| format!("{name} has {count} resource instances"))?;
            Some(("SomeResourcesRemain", format!("Some resources are remaining: {list}")))
        }
        "NamespaceFinalizersRemaining" if !emptied.pods_first => {
            let list =
                list(&emptied.finalizers, |name, count| format!("{name} in {count} resource instances"))?;
            Some((
                "SomeFinalizersRemain",
                format!("Some content in the namespace has finalizers remaining: {list}"),
            ))
        }
        _ => None,
    }
}

fn content_failure(emptied: &Emptied) -> Option<(&'static str, String)> {
    let mut texts: Vec<String> = emptied.errors.iter().map(ToString::to_string).collect();
    if texts.is_empty() || emptied.undiscovered.is_some() && texts.len() == 1 {
        return None;
    }
    texts.sort();
    let text =
        format!("Failed to delete all resource types, {} remaining: {}", texts.len(), texts.join(", "));
    Some(("ContentDeletionFailed", text))
}

fn list(counts: &BTreeMap<String, usize>, show: impl Fn(&str, usize) -> String) -> Option<String> {
    let shown: Vec<_> = counts.iter().map(|(name, count)| show(name, *count)).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_what_is_left_and_keep_their_time_while_nothing_changes() {
        let (mut status, at) = (NamespaceStatus::default(), |second| Timestamp::from_second(second).unwrap());
        let left = Emptied {
            remaining: [("configmaps.".to_owned(), 2)].into(),
            finalizers: [("example.com/a".to_owned(), 1)].into(),
            ..Emptied::default()
        };
        assert!(update(&mut status, &left, at(1)));
        assert!(!update(&mut status, &left, at(2)));
        let conditions = status.conditions.clone().unwrap();
        assert_eq!(conditions.len(), 5);
        assert_eq!(
            conditions[3].message.as_deref(),
            Some("Some resources are remaining: configmaps. has 2 resource instances")
        );
        assert!(update(&mut status, &Emptied::default(), at(3)));
        let conditions = status.conditions.unwrap();
        assert_eq!(conditions[3].last_transition_time, Some(Time(at(3))));
        assert_eq!(conditions[0].last_transition_time, Some(Time(at(1))));
    }
}
