//! Volumes, claims, classes and drivers.

use serde_json::Value;

use super::super::view::{join, or_none};
use super::super::{Cell, Row};
use super::View;

const UNSET: &str = "<unset>";

fn access_modes(object: View<'_>, path: &str) -> String {
    // In this order, each once, however they are listed.
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let listed = |mode: &str| object.items(path).any(|item| item.text() == mode);
    join(SHORT.into_iter().filter(|(mode, _)| listed(mode)).map(|(_, short)| short), ",")
}

fn phase(object: View<'_>) -> &str {
    if object.is_deleted() { "Terminating" } else { object.str("status.phase") }
}

fn class_name(object: View<'_>) -> &str {
    let annotations = object.fields("metadata.annotations");
    let old = annotations.and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"));
    old.and_then(Value::as_str).unwrap_or_else(|| object.str("spec.storageClassName"))
}

pub(super) fn persistent_volume(object: View<'_>) -> Vec<Cell<'_>> {
    let claim = object.at("spec.claimRef");
    let claim = if claim.is_null() {
        String::new()
    } else {
        format!("{}/{}", claim.str("namespace"), claim.str("name"))
    };
    vec![
        object.name(),
        object.scalar_or("spec.capacity.storage", "0").into(),
        access_modes(object, "spec.accessModes").into(),
        object.str("spec.persistentVolumeReclaimPolicy").into(),
        phase(object).into(),
        claim.into(),
        class_name(object).into(),
        object.str_or("spec.volumeAttributesClassName", UNSET).into(),
        object.str("status.reason").into(),
        object.age(),
        object.str_or("spec.volumeMode", UNSET).into(),
    ]
}

pub(super) fn persistent_volume_claim(object: View<'_>) -> Vec<Cell<'_>> {
    let volume = object.str("spec.volumeName");
    let (capacity, modes) = if volume.is_empty() {
        ("".into(), String::new())
    } else {
        (object.scalar_or("status.capacity.storage", "0"), access_modes(object, "status.accessModes"))
    };
    vec![
        object.name(),
        phase(object).into(),
        volume.into(),
        capacity.into(),
        modes.into(),
        class_name(object).into(),
        object.str_or("spec.volumeAttributesClassName", UNSET).into(),
        object.age(),
        object.str_or("spec.volumeMode", UNSET).into(),
    ]
}

pub(super) fn class(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.str("provisioner").into(),
        object.str_or("reclaimPolicy", "Delete").into(),
        object.str_or("volumeBindingMode", "Immediate").into(),
        object.bool("allowVolumeExpansion").into(),
        object.age(),
    ]
}

/// Of the classes marked as default the newest is it, of equally old ones the first by name.
pub(super) fn mark_default(objects: &[&Value], rows: &mut [Row<'_>]) {
    const MARKS: [&str; 2] =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let text =
        |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let marked = |object: &Value| {
        MARKS.iter().any(|mark| object["metadata"]["annotations"][*mark].as_str() == Some("true"))
    };
    let candidates = objects.iter().enumerate().filter(|(_, object)| marked(object));
    let default = candidates.min_by_key(|(_, object)| {
        (std::cmp::Reverse(text(object, "creationTimestamp")), text(object, "name"))
    });
    if let Some((i, object)) = default
        && let Some(cell) = rows.get_mut(i).and_then(|row| row.cells.first_mut())
    {
        *cell = format!("{} (default)", text(object, "name")).into();
    }
}

pub(super) fn attributes_class(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), object.str("driverName").into(), object.age()]
}

pub(super) fn attachment(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.str("spec.attacher").into(),
        object.str("spec.source.persistentVolumeName").into(),
        object.str("spec.nodeName").into(),
        object.bool("status.attached").into(),
        object.age(),
    ]
}

pub(super) fn csi_node(object: View<'_>) -> Vec<Cell<'_>> {
    vec![object.name(), Cell::Int(object.count("spec.drivers") as i64), object.age()]
}

pub(super) fn csi_driver(object: View<'_>) -> Vec<Cell<'_>> {
    let attach = object.at("spec.attachRequired").value().as_bool().unwrap_or(true);
    let tokens = if object.at("spec.tokenRequests").is_null() {
        UNSET.to_owned()
    } else {
        join(object.items("spec.tokenRequests").map(|token| token.str("audience")), ",")
    };
    vec![
        object.name(),
        attach.into(),
        object.bool("spec.podInfoOnMount").into(),
        object.bool("spec.storageCapacity").into(),
        tokens.into(),
        object.bool("spec.requiresRepublish").into(),
        or_none(object.joined("spec.volumeLifecycleModes")).into(),
        object.age(),
    ]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::super::{IncludeObject, Printer};
    use super::*;

    #[test]
    fn only_the_effective_default_class_is_marked_and_only_in_a_list() {
        let class = |name: &str, created: &str| json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
        let (old, new) = (class("a", "2024-01-01T00:00:00Z"), class("b", "2024-01-02T00:00:00Z"));
        let printer = Printer::built_in("storage.k8s.io", "StorageClass");
        let rows = printer.rows(&[&old, &new], IncludeObject::None, Timestamp::UNIX_EPOCH);
        assert_eq!((&rows[0].cells[0], &rows[1].cells[0]), (&Cell::from("a"), &Cell::from("b (default)")));
        assert_eq!(printer.row(&new, IncludeObject::None, Timestamp::UNIX_EPOCH).cells[0], Cell::from("b"));
    }
}
