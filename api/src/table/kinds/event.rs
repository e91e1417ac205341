//! Events, in the old form and the new.

use super::super::Cell;
use super::View;

/// The first of these texts that is not empty.
fn first<'a>(object: View<'a>, paths: &[&str]) -> &'a str {
    paths.iter().map(|path| object.str(path)).find(|text| !text.is_empty()).unwrap_or_default()
}

fn age(object: View<'_>, paths: &[&str]) -> Option<String> {
    paths.iter().find(|path| object.time(path).is_some()).map(|path| object.age_of(path))
}

pub(super) fn cells(object: View<'_>) -> Vec<Cell<'_>> {
    let unknown = || "<unknown>".to_owned();
    let first_seen =
        age(object, &["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]).unwrap_or_else(unknown);
    let series = object.at("series");
    let last_seen = if series.is_null() {
        age(object, &["lastTimestamp", "deprecatedLastTimestamp"]).unwrap_or_else(|| first_seen.clone())
    } else {
        series.age_of("lastObservedTime")
    };
    let count = match (series.is_null(), object.int("count").max(object.int("deprecatedCount"))) {
        (false, _) => series.int("count"),
        (true, count) => count.max(1),
    };
    let involved =
        if object.at("regarding").is_null() { object.at("involvedObject") } else { object.at("regarding") };
    let kind = involved.str("kind").to_lowercase();
    let target = match involved.str("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = first(
        object,
        &["source.component", "deprecatedSource.component", "reportingComponent", "reportingController"],
    );
    let host = first(object, &["source.host", "deprecatedSource.host", "reportingInstance"]);
    let source: Cell<'_> =
        if host.is_empty() { component.into() } else { format!("{component}, {host}").into() };
    vec![
        last_seen.into(),
        object.str("type").into(),
        object.str("reason").into(),
        target.into(),
        involved.str("fieldPath").into(),
        source,
        first(object, &["message", "note"]).trim().into(),
        first_seen.into(),
        count.into(),
        object.name(),
    ]
}
