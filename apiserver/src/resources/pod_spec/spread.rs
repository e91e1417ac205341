//! Topology spread constraints.

use knarr_api::field::{Error, ErrorList};

use super::scheduling;
use crate::resources::at::{At, NOT_POSITIVE};

pub fn validate(spec: &At<'_>, errors: &mut ErrorList) {
    let all = spec.list("topologySpreadConstraints");
    for (i, constraint) in spec.items("topologySpreadConstraints").enumerate() {
        constraint.at("maxSkew").positive(errors);
        let (key, action) = (constraint.at("topologyKey"), constraint.at("whenUnsatisfiable"));
        if key.str().is_empty() {
            errors.push(key.required("can not be empty"));
        }
        action.one_of(errors, &["DoNotSchedule", "ScheduleAnyway"]);
        let repeats = all[i + 1..].iter().map(At::root).any(|other| {
            other.text("topologyKey") == key.str() && other.text("whenUnsatisfiable") == action.str()
        });
        if repeats {
            let at = constraint.path().child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&at, format!("{{{}, {}}}", key.str(), action.str())));
        }
        min_domains(&constraint, action.str(), errors);
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.some(field) {
                policy.one_of(errors, &["Honor", "Ignore"]);
            }
        }
        scheduling::label_keys(&constraint, errors);
        scheduling::label_selector(&constraint.at("labelSelector"), errors);
    }
}

fn min_domains(constraint: &At<'_>, action: &str, errors: &mut ErrorList) {
    let Some(domains) = constraint.some("minDomains") else { return };
    if domains.i64().unwrap_or_default() <= 0 {
        errors.push(domains.invalid(NOT_POSITIVE));
    }
    if action != "DoNotSchedule" {
        let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.push(domains.invalid(detail));
    }
}
