//! Dynamic resource allocation.

use super::super::Cell;
use super::View;

pub(super) fn taint_rule(object: View<'_>) -> Vec<Cell<'_>> {
    let taint = object.at("spec.taint");
    let added = if taint.at("timeAdded").is_null() { String::new() } else { taint.age_of("timeAdded") };
    vec![
        object.name(),
        taint.str("key").into(),
        taint.str("value").into(),
        taint.str("effect").into(),
        added.into(),
        object.age(),
    ]
}

pub(super) fn claim(object: View<'_>) -> Vec<Cell<'_>> {
    let allocated = !object.at("status.allocation").is_null();
    let state = match (object.is_deleted(), allocated, object.count("status.reservedFor") > 0) {
        (true, true, true) => "deleted,allocated,reserved",
        (true, true, false) => "deleted,allocated",
        (true, false, _) => "deleted",
        (false, true, true) => "allocated,reserved",
        (false, true, false) => "allocated",
        (false, false, _) => "pending",
    };
    vec![object.name(), state.into(), object.age()]
}

pub(super) fn slice(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.str("spec.nodeName").into(),
        object.str("spec.driver").into(),
        object.str("spec.pool.name").into(),
        object.age(),
    ]
}

pub(super) fn pool_status_request(object: View<'_>) -> Vec<Cell<'_>> {
    let is = |kind| object.is_true("status.conditions", kind);
    let known = object.at("status").value().is_object() && !is("Failed");
    let sum = |field: &str| {
        if !known {
            return Cell::from("-");
        }
        object.items("status.pools").map(|pool| pool.int(field)).sum::<i64>().to_string().into()
    };
    let (shown, all) = (object.count("status.pools"), object.int("status.poolCount"));
    let status = match (is("Failed"), is("Complete")) {
        (true, _) => "Failed".to_owned(),
        (false, true) if (shown as i64) < all => format!("Complete ({shown}/{all} pools)"),
        (false, true) => "Complete".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    let completed = object.condition("status.conditions", "Complete");
    let errors = object.items("status.pools").filter(|pool| !pool.str("validationError").is_empty()).count();
    vec![
        object.name(),
        object.str("spec.driver").into(),
        sum("totalDevices"),
        sum("availableDevices"),
        sum("allocatedDevices"),
        sum("unavailableDevices"),
        if known { errors.to_string().into() } else { "-".into() },
        all.into(),
        status.into(),
        completed.map_or("<none>".into(), |condition| condition.age_of("lastTransitionTime").into()),
    ]
}
