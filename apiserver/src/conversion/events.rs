//! Events have two faces over the same objects: `v1` and `events.k8s.io/v1` name their fields differently.

use serde_json::{Map, Value};

/// (in `v1`, in `events.k8s.io/v1`)
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub fn core_to_events(event: &mut Value) {
    rename(event, RENAMED.iter().copied());
}

pub fn events_to_core(event: &mut Value) {
    rename(event, RENAMED.iter().map(|(core, events)| (*events, *core)));
    // The core version always shows these.
    if let Some(fields) = event.as_object_mut() {
        fields.entry("involvedObject").or_insert_with(|| Value::Object(Map::new()));
    }
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_survives_both_ways() {
        let core = json!({"involvedObject": {"name": "x"}, "message": "m", "reason": "r", "reportingComponent": "c"});
        let mut event = core.clone();
        core_to_events(&mut event);
        assert_eq!(
            event,
            json!({"regarding": {"name": "x"}, "note": "m", "reason": "r", "reportingController": "c"})
        );
        events_to_core(&mut event);
        assert_eq!(event, core);
    }
}
