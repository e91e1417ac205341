//! Everything wrong with a Deployment.

use knarr_api::field::{Error, ErrorList};
use knarr_api::selector::Selector;
use serde_json::Value;

use crate::resources::at::At;
use crate::resources::pod_spec::workload;

pub fn spec(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    spec.at("replicas").nonnegative(&mut errors);
    super::super::selector_and_template(&spec, &mut errors);
    strategy(&spec.at("strategy"), &mut errors);
    spec.at("minReadySeconds").nonnegative(&mut errors);
    spec.at("revisionHistoryLimit").nonnegative(&mut errors);
    if let Some(deadline) = spec.some("progressDeadlineSeconds") {
        deadline.nonnegative(&mut errors);
        if deadline.i64().unwrap_or_default() <= spec.int("minReadySeconds").unwrap_or_default() {
            errors.push(deadline.invalid("must be greater than minReadySeconds"));
        }
    }
    errors
}

fn strategy(strategy: &At<'_>, errors: &mut ErrorList) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.text("type") {
        "Recreate" if rolling.value().is_some() => {
            errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
            workload::int_or_percent(&unavailable, errors);
            workload::int_or_percent(&surge, errors);
            let value = workload::int_or_percent_value;
            if value(&unavailable) == 0 && value(&surge) == 0 {
                errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            workload::at_most_all(&unavailable, errors);
        }
        _ => {
            let shown = strategy.value().cloned().unwrap_or_default();
            errors.push(Error::not_supported(strategy.path(), shown, &["Recreate", "RollingUpdate"]));
        }
    }
}

pub fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = spec(object);
    let of = |object| At::root(object).at("spec").at("selector");
    of(object).immutable(&mut errors, &of(old));
    errors
}

pub fn status_update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (status, was) = (At::root(object).at("status"), At::root(old).at("status"));
    let counted = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    workload::counts(&status, &counted, &mut errors);
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::parts(&status, &parts, "readyReplicas", &mut errors);
    workload::collisions(&status, &was, &mut errors);
    errors
}

/// The selector of a spec, unless it is none.
pub fn parsed_selector(spec: &At<'_>) -> Option<Selector> {
    Selector::from_label_selector(spec.get("selector")).ok()
}
