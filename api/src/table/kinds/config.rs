//! Namespaces, configuration and quota.

use super::super::Cell;
use super::super::view::join;
use super::View;

pub(super) fn config_map(object: View<'_>) -> Vec<Cell<'_>> {
    let data = object.count("data") + object.count("binaryData");
    vec![object.name(), Cell::Int(data as i64), object.age()]
}

pub(super) fn secret(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str("type").into(), Cell::Int(object.count("data") as i64), object.age()]
}

pub(super) fn namespace(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str("status.phase").into(), object.age()]
}

pub(super) fn resource_quota(object: View<'_>) -> Vec<Cell<'_>> {
    let used = object.fields("status.used");
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in object.fields("status.hard").into_iter().flatten() {
        let used = used.and_then(|used| used.get(resource)).and_then(|used| used.as_str()).unwrap_or("0");
        let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or("0"));
        if resource.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    vec![object.name(), join(requests, ", ").into(), join(limits, ", ").into(), object.age()]
}
