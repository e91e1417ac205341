//! Everything wrong with an update of a Job's status: what has ended stays ended, and the counts add up.

use std::collections::BTreeSet;

use knarr_api::field::{BadValue, ErrorList, IMMUTABLE};
use serde_json::Value;

use super::indexes;
use crate::resources::at::{At, same};
use crate::resources::pod_spec::workload;

/// A job's status with what upstream asks about it.
struct View<'a> {
    spec: At<'a>,
    status: At<'a>,
}

impl<'a> View<'a> {
    fn new(job: &'a Value) -> Self {
        let root = At::root(job);
        Self { spec: root.at("spec"), status: root.at("status") }
    }

    fn condition(&self, kind: &str, state: &str) -> bool {
        self.status
            .list("conditions")
            .iter()
            .map(At::root)
            .any(|condition| condition.text("type") == kind && condition.text("status") == state)
    }

    fn is(&self, kind: &str) -> bool {
        self.condition(kind, "True")
    }

    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }

    fn count(&self, field: &str) -> i64 {
        self.status.int(field).unwrap_or_default()
    }
}

pub fn update(job: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (new, old) = (View::new(job), View::new(old));
    counts(&new, &mut errors);
    conditions(&new, &old, &mut errors);
    times(&new, &old, &mut errors);
    finished(&new, &old, &mut errors);
    lists(&new, &old, &mut errors);
    transitions(&new, &old, &mut errors);
    errors
}

fn counts(new: &View<'_>, errors: &mut ErrorList) {
    workload::counts(&new.status, &["active", "succeeded", "failed", "ready", "terminating"], errors);
    let uncounted = new.status.at("uncountedTerminatedPods");
    let mut seen = BTreeSet::new();
    for uid in uncounted.items("succeeded").chain(uncounted.items("failed")) {
        if uid.str().is_empty() {
            errors.push(uid.invalid("must not be empty"));
        } else if !seen.insert(uid.str()) {
            errors.push(uid.duplicate());
        }
    }
}

fn conditions(new: &View<'_>, old: &View<'_>, errors: &mut ErrorList) {
    let changed = |kinds: &[&str]| kinds.iter().any(|kind| new.is(kind) != old.is(kind));
    let (complete, failed) = (new.is("Complete"), new.is("Failed"));
    let (target, met) = (new.is("FailureTarget"), new.is("SuccessCriteriaMet"));
    let failed_indexes = new.status.get("failedIndexes") != old.status.get("failedIndexes");
    let at = new.status.at("conditions");
    let mut refuse = |wrong: bool, detail: &str| {
        if wrong {
            errors.push(at.invalid_as(BadValue::Omitted, detail));
        }
    };
    refuse(
        changed(&["Complete", "Failed"]) && complete && failed,
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        changed(&["Complete", "FailureTarget"]) && complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        (changed(&["Failed"]) || failed_indexes) && failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        changed(&["Complete", "SuccessCriteriaMet"]) && complete && !met,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    refuse(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    refuse(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    refuse(
        new.spec.has("successPolicy") && !met && complete,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
}

fn times(new: &View<'_>, old: &View<'_>, errors: &mut ErrorList) {
    let differs = |field: &str| new.status.get(field) != old.status.get(field);
    let (start, end) = (new.status.at("startTime"), new.status.at("completionTime"));
    let complete = new.is("Complete");
    if complete != old.is("Complete") || differs("completionTime") {
        if end.value().is_some() && !complete {
            errors.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
        }
        if end.value().is_none() && complete {
            errors.push(end.required("completionTime is required for Complete jobs"));
        }
    }
    // Times are in one canonical form, in which the order of texts is that of time.
    let reversed = start.value().is_some() && end.value().is_some() && end.str() < start.str();
    if (differs("startTime") || differs("completionTime")) && reversed {
        errors.push(end.invalid("must be equal to or after `startTime`"));
    }
}

fn finished(new: &View<'_>, old: &View<'_>, errors: &mut ErrorList) {
    let changed = new.finished() != old.finished();
    let differs = |field: &str| !same(new.status.get(field), old.status.get(field));
    if !new.finished() {
        return;
    }
    if (changed || differs("active")) && new.count("active") > 0 {
        errors.push(new.status.at("active").invalid("active>0 is invalid for finished job"));
    }
    let rests = new.spec.flag("suspend") && new.spec.int("completions") == Some(0);
    if (changed || differs("startTime")) && !rests && !new.status.has("startTime") {
        errors.push(new.status.at("startTime").required("startTime is required for finished job"));
    }
    let uncounted = new.status.at("uncountedTerminatedPods");
    let any = uncounted.filled("failed") || uncounted.filled("succeeded");
    if (changed || differs("uncountedTerminatedPods")) && any {
        errors.push(uncounted.invalid("must be empty for finished job"));
    }
    if (changed || differs("terminating")) && new.count("terminating") > 0 {
        errors.push(new.status.at("terminating").invalid("terminating>0 is invalid for finished job"));
    }
}

fn lists(new: &View<'_>, old: &View<'_>, errors: &mut ErrorList) {
    let differs = |field: &str| new.status.get(field) != old.status.get(field);
    let completions = new.spec.int("completions");
    let (done, failed) = (new.status.at("completedIndexes"), new.status.at("failedIndexes"));
    let per_index = new.spec.has("backoffLimitPerIndex");
    let (done_changed, failed_changed) = (differs("completedIndexes"), differs("failedIndexes"));
    let mut parse = |at: &At<'_>, field: &str, looked_at: bool| {
        if let (true, Some(completions)) = (looked_at, completions)
            && let Err(wrong) = indexes::count(at.str(), completions)
        {
            errors.push(at.invalid(format!("error parsing {field}: {wrong}")));
        }
    };
    parse(&done, "completedIndexes", done_changed);
    parse(&failed, "failedIndexes", failed_changed && per_index && failed.value().is_some());
    if done_changed && !done.str().is_empty() && new.spec.text("completionMode") != "Indexed" {
        errors.push(done.invalid("cannot set non-empty completedIndexes when non-indexed completion mode"));
    }
    if failed_changed && !per_index && failed.value().is_some() {
        errors.push(failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null"));
    }
    if let (true, Some(completions)) = (done_changed || failed_changed, completions)
        && let Some(index) = indexes::overlap(done.str(), failed.str(), completions)
    {
        errors.push(failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {index}")));
    }
}

fn transitions(new: &View<'_>, old: &View<'_>, errors: &mut ErrorList) {
    let differs = |field: &str| new.status.get(field) != old.status.get(field);
    if (differs("ready") || differs("active")) && new.count("ready") > new.count("active") {
        errors.push(new.status.at("ready").invalid("cannot set more ready pods than active"));
    }
    let at = new.status.at("conditions");
    for kind in
        ["Failed", "Complete", "FailureTarget"].into_iter().filter(|kind| old.is(kind) && !new.is(kind))
    {
        let detail = format!("cannot disable the terminal {kind}=True condition");
        errors.push(at.invalid_as(BadValue::Omitted, detail));
    }
    let elastic = new.spec.text("completionMode") == "Indexed"
        && new.spec.get("completions") == new.spec.get("parallelism");
    for field in ["failed", "succeeded"].into_iter().filter(|field| *field == "failed" || !elastic) {
        if new.count(field) < old.count(field) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(new.status.at(field).invalid_as(new.count(field), detail));
        }
    }
    let end = new.status.at("completionTime");
    if end.value().is_some() && old.status.has("completionTime") && differs("completionTime") {
        errors.push(end.invalid(IMMUTABLE));
    }
    let resumes = old.is("Suspended") && new.condition("Suspended", "False");
    let restarted = differs("startTime") && old.status.has("startTime");
    if restarted && !resumes && !new.spec.flag("suspend") {
        let start = new.status.at("startTime");
        let shown = start.value().cloned().unwrap_or_default();
        errors.push(start.invalid_as(shown, "field is immutable for unsuspended job once set"));
    }
    let met = |view: &View<'_>| view.is("SuccessCriteriaMet");
    if met(old) && !met(new) {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(at.invalid_as(BadValue::Omitted, detail));
    }
    if old.is("Complete") && !met(old) && met(new) {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(at.invalid_as(BadValue::Omitted, detail));
    }
}
