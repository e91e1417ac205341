//! CronJobs.

mod schedule;

use knarr_api::field::ErrorList;
use serde_json::{Value, json};

use super::job;
use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;
use crate::resources::pod_spec::workload;

/// A label's length without the suffix that the names of its jobs get.
const NAME_MAX: usize = 52;

pub struct CronJob;

impl Strategy for CronJob {
    fn set_defaults(&self, object: &mut Value) {
        let spec = object::map_at(object, "spec");
        fill::zero(spec, "concurrencyPolicy", "Allow");
        fill::nil(spec, "suspend", false);
        fill::nil(spec, "successfulJobsHistoryLimit", 3);
        fill::nil(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = spec.pointer_mut("/jobTemplate/spec") {
            job::default_spec(job, false);
        }
    }

    fn prepare_for_create(&self, _: &Context<'_>, object: &mut Value) {
        object["status"] = json!({});
    }
    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        create(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        spec(&At::root(object).at("spec"), Some(&At::root(old).at("spec")), &mut errors);
        errors
    }
}

pub fn create(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    spec(&root.at("spec"), None, &mut errors);
    let name = root.at("metadata").at("name");
    if name.str().len() > NAME_MAX {
        errors.push(name.invalid(format!("must be no more than {NAME_MAX} characters")));
    }
    errors
}

fn spec(spec: &At<'_>, old: Option<&At<'_>>, errors: &mut ErrorList) {
    let at = spec.at("schedule");
    if at.str().is_empty() {
        errors.push(at.required(""));
    } else {
        if let Err(wrong) = schedule::check(at.str()) {
            errors.push(at.invalid(wrong));
        }
        let had_zone = old.is_some_and(|old| old.text("schedule").contains("TZ"));
        let has_zone = at.str().contains("TZ");
        if has_zone && !had_zone {
            errors.push(at.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
        } else if has_zone && spec.has("timeZone") {
            errors.push(at.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
        }
    }
    spec.at("startingDeadlineSeconds").nonnegative(errors);
    let zone = spec.at("timeZone");
    if old.is_none_or(|old| old.get("timeZone") != zone.value()) {
        time_zone(&zone, errors);
    }
    spec.at("concurrencyPolicy").require_one_of(errors, &["Allow", "Forbid", "Replace"]);
    let job = spec.at("jobTemplate").at("spec");
    job::validate::spec(&job, errors);
    if let Some(selector) = job.some("selector") {
        errors.push(selector.invalid("`selector` will be auto-generated"));
    }
    if job.flag("manualSelector") {
        errors.push(job.at("manualSelector").unsupported(&["nil", "false"]));
    }
    workload::counts(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], errors);
}

fn time_zone(zone: &At<'_>, errors: &mut ErrorList) {
    if zone.value().is_none() {
        return;
    }
    let name = zone.str();
    if name.is_empty() {
        errors.push(zone.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let fits = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.chars().all(known)
    };
    if !name.split('/').all(fits) {
        errors.push(zone.invalid(format!("unknown time zone {name}")));
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(zone.invalid(detail));
    } else if jiff::tz::TimeZone::get(name).is_err() {
        errors.push(zone.invalid(format!("unknown time zone {name}")));
    }
}
