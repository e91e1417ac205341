//! Priority and fairness.

use super::super::Cell;
use super::View;

pub(super) fn flow_schema(object: View<'_>) -> Vec<Cell<'_>> {
    let dangling = object.condition("status.conditions", "Dangling");
    vec![
        object.name(),
        object.str("spec.priorityLevelConfiguration.name").into(),
        object.int("spec.matchingPrecedence").into(),
        object.str_or("spec.distinguisherMethod.type", "<none>").into(),
        object.age(),
        dangling.map_or("?", |condition| condition.str("status")).into(),
    ]
}

pub(super) fn priority_level(object: View<'_>) -> Vec<Cell<'_>> {
    let limited = object.at("spec.limited");
    let queuing = limited.at("limitResponse.queuing");
    vec![
        object.name(),
        object.str("spec.type").into(),
        int(limited, "nominalConcurrencyShares"),
        int(queuing, "queues"),
        int(queuing, "handSize"),
        int(queuing, "queueLengthLimit"),
        object.age(),
    ]
}

/// A number of `parent`; `<none>` when there is no parent.
fn int(parent: View<'_>, field: &str) -> Cell<'static> {
    if parent.is_null() { "<none>".into() } else { parent.int(field).into() }
}
