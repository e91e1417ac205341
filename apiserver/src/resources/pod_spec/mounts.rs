//! Where a container mounts volumes and finds block devices.

use std::collections::{BTreeMap, BTreeSet};

use knarr_api::field::ErrorList;

use super::paths;
use super::volumes::Known;
use crate::resources::at::At;

pub fn validate(container: &At<'_>, volumes: &Known<'_>, errors: &mut ErrorList) {
    let pairs = |field: &str, path: &str| -> BTreeMap<&str, &str> {
        let list = container.list(field).iter().map(At::root);
        list.map(|item| (item.text("name"), item.text(path))).collect()
    };
    mounts(container, &pairs("volumeDevices", "devicePath"), volumes, errors);
    devices(container, &pairs("volumeMounts", "mountPath"), volumes, errors);
}

fn mounts(container: &At<'_>, devices: &BTreeMap<&str, &str>, volumes: &Known<'_>, errors: &mut ErrorList) {
    let list = container.at("volumeMounts");
    let mut points = BTreeSet::new();
    for mount in container.items("volumeMounts") {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        name.require_text(errors);
        if !volumes.contains_key(name.str()) {
            errors.push(name.not_found());
        }
        path.require_text(errors);
        if !points.insert(path.str()) {
            errors.push(path.invalid("must be unique"));
        }
        if devices.contains_key(name.str()) {
            errors.push(name.invalid("must not already exist in volumeDevices"));
        }
        if devices.values().any(|device| *device == path.str()) {
            errors.push(path.invalid("must not already exist as a path in volumeDevices"));
        }
        // Upstream names the list, not the mount, as the place of what follows.
        let of_list = |field: &'static str| At::new(mount.get(field), list.path().child(field));
        if mount.filled("subPath") {
            paths::descending(&of_list("subPath"), errors);
        }
        if mount.filled("subPathExpr") {
            if mount.filled("subPath") {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(mount.at("subPathExpr").invalid(detail));
            }
            paths::descending(&of_list("subPathExpr"), errors);
        }
        propagation(&of_list("mountPropagation"), container, errors);
        recursive_read_only(&of_list("recursiveReadOnly"), &mount, errors);
    }
}

fn propagation(at: &At<'_>, container: &At<'_>, errors: &mut ErrorList) {
    if at.value().is_none() {
        return;
    }
    at.one_of(errors, &["Bidirectional", "HostToContainer", "None"]);
    if at.str() == "Bidirectional" && !container.at("securityContext").flag("privileged") {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(at.forbidden(detail));
    }
}

fn recursive_read_only(at: &At<'_>, mount: &At<'_>, errors: &mut ErrorList) {
    match at.value().map(|_| at.str()) {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.flag("readOnly") {
                errors.push(at.forbidden("may only be specified when readOnly is true"));
            }
            if !matches!(mount.text("mountPropagation"), "" | "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(at.forbidden(detail));
            }
        }
        Some(_) => errors.push(at.unsupported(&["Disabled", "Enabled", "IfPossible"])),
    }
}

fn devices(container: &At<'_>, mounts: &BTreeMap<&str, &str>, volumes: &Known<'_>, errors: &mut ErrorList) {
    let (mut names, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for device in container.items("volumeDevices") {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        name.require_text(errors);
        if names.contains(name.str()) {
            errors.push(name.invalid("must be unique"));
        }
        match volumes.get(name.str()) {
            Some(true) => {}
            Some(false) => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(name.invalid(detail));
            }
            None => errors.push(name.not_found()),
        }
        path.require_text(errors);
        if seen.contains(path.str()) {
            errors.push(path.invalid("must be unique"));
        }
        if path.str().split('/').any(|part| part == "..") {
            errors.push(path.invalid("can not contain backsteps ('..')"));
        } else {
            seen.insert(path.str());
        }
        if mounts.contains_key(name.str()) {
            errors.push(name.invalid("must not already exist in volumeMounts"));
        }
        if mounts.values().any(|mount| *mount == path.str()) {
            errors.push(path.invalid("must not already exist as a path in volumeMounts"));
        }
        if !name.str().is_empty() {
            names.insert(name.str());
        }
    }
}
