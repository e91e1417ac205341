//! Jobs.

use super::super::{Cell, human_duration};
use super::View;

pub(super) fn job(object: View<'_>) -> Vec<Cell<'_>> {
    let mut cells = vec![
        object.name(),
        status(object).into(),
        completions(object).into(),
        duration(object).into(),
        object.age(),
    ];
    cells.extend(object.containers("spec.template.spec"));
    cells.push(object.selector("spec.selector").into());
    cells
}

fn status(job: View<'_>) -> &'static str {
    let is = |kind| job.is_true("status.conditions", kind);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if job.is_deleted() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: View<'_>) -> String {
    let succeeded = job.int("status.succeeded");
    let parallelism = job.int("spec.parallelism");
    match job.at("spec.completions").value().as_i64() {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: View<'_>) -> String {
    match (job.time("status.startTime"), job.time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human_duration(end.unwrap_or(job.now).duration_since(start).as_secs()),
    }
}

pub(super) fn cron_job(object: View<'_>) -> Vec<Cell<'_>> {
    let suspend = match object.at("spec.suspend").value().as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = object.time("status.lastScheduleTime");
    let mut cells = vec![
        object.name(),
        object.str("spec.schedule").into(),
        object.str_or("spec.timeZone", "<none>").into(),
        suspend.into(),
        Cell::Int(object.count("status.active") as i64),
        last.map_or("<none>".into(), |_| object.age_of("status.lastScheduleTime").into()),
        object.age(),
    ];
    cells.extend(object.containers("spec.jobTemplate.spec.template.spec"));
    cells.push(object.selector("spec.jobTemplate.spec.selector").into());
    cells
}
