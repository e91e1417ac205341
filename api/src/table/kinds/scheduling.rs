//! Priorities, disruption budgets and pod groups.

use super::super::Cell;
use super::View;

pub(super) fn priority_class(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.int("value").into(),
        object.bool("globalDefault").into(),
        object.age(),
        object.str("preemptionPolicy").into(),
    ]
}

pub(super) fn disruption_budget(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.scalar_or("spec.minAvailable", "N/A").into(),
        object.scalar_or("spec.maxUnavailable", "N/A").into(),
        object.int("status.disruptionsAllowed").into(),
        object.age(),
    ]
}

fn policy(object: View<'_>) -> &'static str {
    if object.at("spec.schedulingPolicy.gang").is_null() { "Basic" } else { "Gang" }
}

const WORKLOAD: &str = "spec.workloadRef.workloadName";

pub(super) fn composite_pod_group(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), policy(object).into(), object.str_or(WORKLOAD, "<none>").into(), object.age()]
}

pub(super) fn pod_group(object: View<'_>) -> Vec<Cell<'_>> {
    let mut status = match object.condition("status.conditions", "PodGroupInitiallyScheduled") {
        Some(scheduled) if scheduled.str("status") == "True" => "Scheduled",
        Some(_) => "Unschedulable",
        None => "Pending",
    };
    if let Some(disrupted) = object.condition("status.conditions", "DisruptionTarget") {
        status = disrupted.str("reason");
    }
    let workload = object.str_or(WORKLOAD, "<none>");
    vec![object.name(), policy(object).into(), workload.into(), status.into(), object.age()]
}
