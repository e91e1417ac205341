//! Evictions.

use super::super::view::clipped;
use super::super::{Cell, human_duration};
use super::View;

const UNSET: &str = "<unset>";

fn target(object: View<'_>) -> [Cell<'_>; 2] {
    let kind = if object.at("spec.target.pod").is_null() { UNSET } else { "Pod" };
    [object.str_or("spec.target.pod.name", UNSET).into(), kind.into()]
}

fn status(object: View<'_>) -> String {
    for kind in ["TargetEvicted", "Failed"] {
        let condition =
            object.condition("status.conditions", kind).filter(|found| found.str("status") == "True");
        if let Some(condition) = condition {
            return format!("{kind} ({})", condition.str("reason"));
        }
    }
    let progressing = object.int("status.observedGeneration") > 0;
    if progressing { "Progressing" } else { "Pending" }.to_owned()
}

pub(super) fn eviction_request(object: View<'_>) -> Vec<Cell<'_>> {
    let [name, kind] = target(object);
    vec![
        object.name(),
        name,
        kind,
        status(object).into(),
        object.str("spec.requester").into(),
        object.str("spec.intent").into(),
        object.age(),
    ]
}

pub(super) fn eviction(object: View<'_>) -> Vec<Cell<'_>> {
    let [name, kind] = target(object);
    let responder = Responder::of(object);
    vec![
        object.name(),
        name,
        kind,
        status(object).into(),
        responder.as_ref().map_or(UNSET.into(), |responder| responder.label().into()),
        responder.as_ref().map_or(UNSET.into(), |responder| responder.state().into()),
        responder.as_ref().map_or("<unknown>".into(), |responder| responder.expected_finish().into()),
        requesters(object).into(),
        object.age(),
        responder.as_ref().map_or(UNSET.into(), |responder| responder.heartbeat().into()),
        responder.as_ref().map_or(UNSET.into(), |responder| responder.message().into()),
    ]
}

/// The responder that counts: the last active one, else the last that ended.
struct Responder<'a> {
    status: View<'a>,
    position: usize,
    all: usize,
}

impl<'a> Responder<'a> {
    fn of(object: View<'a>) -> Option<Self> {
        let all = object.count("status.targetResponders");
        let last = |wanted: &[&str]| {
            let mut found = object.items("status.targetResponders").enumerate();
            found.rfind(|(_, responder)| wanted.contains(&responder.str("state")))
        };
        let (i, status) = last(&["Active"]).or_else(|| last(&["Canceled", "Interrupted", "Completed"]))?;
        Some(Self { status, position: i + 1, all })
    }

    fn label(&self) -> String {
        format!("{} ({}/{})", self.status.str("name"), self.position, self.all)
    }

    fn state(&self) -> String {
        match self.status.str("state") {
            "Active" if self.status.time("startTime").is_some() => {
                format!("Started ({} ago)", self.status.age_of("startTime"))
            }
            "Completed" => format!("Completed ({} ago)", self.status.age_of("completionTime")),
            state => state.to_owned(),
        }
    }

    fn expected_finish(&self) -> String {
        if self.status.str("state") != "Active" {
            return "-".to_owned();
        }
        let Some(finish) = self.status.time("expectedCompletionTime") else {
            return "<unknown>".to_owned();
        };
        match finish.duration_since(self.status.now).as_secs() {
            left @ 0.. => format!("in {}", human_duration(left)),
            late => format!("{} ago", human_duration(-late)),
        }
    }

    fn heartbeat(&self) -> String {
        match self.status.time("heartbeatTime") {
            Some(_) => format!("{} ago", self.status.age_of("heartbeatTime")),
            None => UNSET.to_owned(),
        }
    }

    fn message(&self) -> &'a str {
        match self.status.str("message").trim() {
            "" => UNSET,
            message => message,
        }
    }
}

fn requesters(object: View<'_>) -> String {
    if object.count("spec.requesters") == 0 {
        return "<none>".to_owned();
    }
    let standing = object.items("spec.requesters").filter(|requester| requester.str("intent") != "Withdrawn");
    let mut names: Vec<String> = standing.map(|requester| requester.str("name").to_owned()).collect();
    if names.is_empty() {
        return "<withdrawn>".to_owned();
    }
    names.sort_unstable();
    clipped(names, 1, ",")
}
