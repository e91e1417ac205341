//! Events, which two groups show: those written through the newer one are held to stricter rules.

use jiff::Timestamp;
use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::names;
use serde_json::Value;

use crate::object;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;

const INSTANCE_MAX: usize = 128;
const ACTION_MAX: usize = 128;
const REASON_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

pub struct Event;

impl Strategy for Event {
    fn validate(&self, cx: &Context<'_>, object: &Value) -> ErrorList {
        match is_strict(cx) {
            true => create_strictly(object),
            false => legacy(object, REPORTING_COMPONENT),
        }
    }

    fn validate_update(&self, cx: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        match is_strict(cx) {
            true => update_strictly(object, old),
            false => legacy(object, REPORTING_COMPONENT),
        }
    }
}

/// What the field of the reporting controller is called in the older group, and in the newer one.
const REPORTING_COMPONENT: &str = "reportingComponent";
const REPORTING_CONTROLLER: &str = "reportingController";

fn is_strict(cx: &Context<'_>) -> bool {
    !cx.group.is_empty()
}

/// What holds for every event.
fn legacy(object: &Value, reporting: &'static str) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let namespace = object::namespace(object);
    let involved = root.at("involvedObject").at("namespace");
    let is_new = root.filled("eventTime");
    let fits = match (involved.str(), is_new) {
        ("", false) => matches!(namespace, "" | "default"),
        ("", true) => matches!(namespace, "default" | "kube-system"),
        (other, false) => other == namespace,
        (_, true) => true,
    };
    if !fits {
        errors.push(involved.invalid_as(involved.str(), "does not match event.namespace"));
    }
    if is_new {
        new_fields(&root, reporting, &mut errors);
    }
    let path = Path::new("namespace");
    let wrong = names::dns_subdomain(namespace).into_iter();
    errors.extend(wrong.map(|wrong| Error::invalid(&path, namespace, wrong)));
    errors
}

fn new_fields(root: &At<'_>, reporting: &'static str, errors: &mut ErrorList) {
    let controller = root.named("reportingComponent", reporting);
    controller.require_text(errors);
    controller.check(errors, names::qualified_name);
    let limited = [("reportingInstance", INSTANCE_MAX), ("action", ACTION_MAX), ("reason", REASON_MAX)];
    for (field, max) in limited {
        root.at(field).require_text(errors);
        at_most(&root.at(field), max, errors);
    }
    at_most(&root.at("message"), NOTE_MAX, errors);
}

fn at_most(at: &At<'_>, max: usize, errors: &mut ErrorList) {
    if at.str().len() > max {
        errors.push(at.invalid_as("", format!("can have at most {max} characters")));
    }
}

fn create_strictly(object: &Value) -> ErrorList {
    let mut errors = legacy(object, REPORTING_CONTROLLER);
    let root = At::root(object);
    let name = object::name(object);
    let path = Path::new("metadata").child("name");
    let wrong = names::dns_subdomain(name).into_iter();
    errors.extend(wrong.map(|wrong| Error::invalid(&path, name, wrong)));
    series(&root, &mut errors);
    if !root.filled("eventTime") {
        errors.push(root.at("eventTime").required(""));
    }
    let kind = root.at("type");
    if !matches!(kind.str(), "Normal" | "Warning") {
        errors.push(kind.invalid_as("", format!("has invalid value: {}", kind.str())));
    }
    for field in ["firstTimestamp", "lastTimestamp"] {
        if root.filled(field) {
            errors.push(root.at(field).invalid_as("", "needs to be unset"));
        }
    }
    if root.int("count").is_some_and(|count| count != 0) {
        errors.push(root.at("count").invalid_as("", "needs to be unset"));
    }
    let source = root.at("source");
    if source.filled("component") || source.filled("host") {
        errors.push(source.invalid_as("", "needs to be unset"));
    }
    errors
}

fn series(root: &At<'_>, errors: &mut ErrorList) {
    let Some(series) = root.some("series") else { return };
    if series.int("count").unwrap_or_default() < 2 {
        errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
    }
    if !series.filled("lastObservedTime") {
        errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
    }
}

fn update_strictly(object: &Value, old: &Value) -> ErrorList {
    let mut errors = legacy(object, REPORTING_CONTROLLER);
    let (new, old) = (At::root(object), At::root(old));
    if new.get("series") != old.get("series") {
        series(&new, &mut errors);
    }
    let fixed =
        ["involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type"];
    for field in fixed {
        new.at(field).immutable(&mut errors, &old.at(field));
    }
    if micros(&new) != micros(&old) {
        new.at("eventTime").immutable(&mut errors, &old.at("eventTime"));
    }
    for field in ["action", "related"] {
        new.at(field).immutable(&mut errors, &old.at(field));
    }
    new.named("reportingComponent", REPORTING_CONTROLLER)
        .immutable(&mut errors, &old.at("reportingComponent"));
    new.at("reportingInstance").immutable(&mut errors, &old.at("reportingInstance"));
    errors
}

/// Clients differ in how finely they keep time; microseconds are what is kept.
fn micros(event: &At<'_>) -> Option<i64> {
    event.text("eventTime").parse::<Timestamp>().ok().map(|time| time.as_microsecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::{check, check_updates};

    fn event() -> Value {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"}, "type": "Normal",
            "involvedObject": {"kind": "Pod", "namespace": "n"}, "reason": "Because", "action": "Doing",
            "eventTime": "2030-01-01T00:00:00.000000Z", "reportingComponent": "example.com/c", "reportingInstance": "i"})
    }

    #[test]
    fn events_are_held_to_the_rules_of_the_group_they_are_written_through() {
        let legacy = |object: &Value| legacy(object, REPORTING_COMPONENT);
        check(
            &Event,
            legacy,
            &event(),
            &[
                ("/action", json!(""), "action: Required value"),
                ("/type", json!("Odd"), ""),
                ("/eventTime", Value::Null, ""),
            ],
        );
        let mut old_style = event();
        old_style.as_object_mut().map(|fields| fields.remove("eventTime"));
        let elsewhere = "involvedObject.namespace: Invalid value: \"m\": does not match event.namespace";
        check(&Event, legacy, &old_style, &[("/involvedObject/namespace", json!("m"), elsewhere)]);
        check(
            &Event,
            create_strictly,
            &event(),
            &[
                ("/type", json!("Odd"), "type: Invalid value: \"\": has invalid value: Odd"),
                ("/count", json!(3), "count: Invalid value: \"\": needs to be unset"),
                (
                    "/series",
                    json!({"count": 1}),
                    "[series.count: Invalid value: \"\": should be at least 2, series.lastObservedTime: Required value]",
                ),
            ],
        );
        check_updates(
            &Event,
            update_strictly,
            &event(),
            &[
                ("/reason", json!("Other"), "reason: Invalid value: \"Other\": field is immutable"),
                ("/series", json!({"count": 2, "lastObservedTime": "2030-01-01T00:00:00.000000Z"}), ""),
            ],
        );
    }
}
