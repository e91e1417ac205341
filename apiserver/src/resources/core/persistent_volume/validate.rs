//! Everything wrong with a volume of the cluster.

use knarr_api::field::{Error, ErrorList, IMMUTABLE, Path};
use knarr_api::names;
use serde_json::{Map, Value};

use crate::resources::at::{At, same};
use crate::resources::core::persistent_volume_claim as claim;
use crate::resources::diff::diff;
use crate::resources::pod_spec::volumes;
use crate::resources::pod_spec::{amounts, scheduling};

/// A kind of storage: its field, its name in errors about its content, and the rule.
type Source = (&'static str, &'static str, fn(&At<'_>, &str, &mut ErrorList));

const SOURCES: &[Source] = &[
    ("hostPath", "hostPath", |at, _, errors| volumes::host_path(at, errors)),
    ("gcePersistentDisk", "persistentDisk", |at, _, errors| volumes::partitioned(at, "pdName", errors)),
    ("awsElasticBlockStore", "awsElasticBlockStore", |at, _, errors| {
        volumes::partitioned(at, "volumeID", errors)
    }),
    ("glusterfs", "glusterfs", glusterfs),
    ("flocker", "flocker", |at, _, errors| volumes::flocker(at, errors)),
    ("nfs", "nfs", |at, _, errors| volumes::nfs(at, errors)),
    ("rbd", "rbd", |at, _, errors| volumes::rbd(at, errors)),
    ("quobyte", "quobyte", |at, _, errors| volumes::quobyte(at, errors)),
    ("cephfs", "cephfs", |at, _, errors| volumes::ceph_fs(at, errors)),
    ("iscsi", "iscsi", iscsi),
    ("cinder", "cinder", cinder),
    ("fc", "fc", |at, _, errors| volumes::fc(at, errors)),
    ("flexVolume", "flexVolume", |at, _, errors| volumes::flex(at, errors)),
    ("azureFile", "azureFile", azure_file),
    ("vsphereVolume", "vsphereVolume", |at, _, errors| at.at("volumePath").require_text(errors)),
    ("photonPersistentDisk", "photonPersistentDisk", |at, _, errors| at.at("pdID").require_text(errors)),
    ("portworxVolume", "portworxVolume", |at, _, errors| at.at("volumeID").require_text(errors)),
    ("azureDisk", "azureDisk", |at, _, errors| volumes::azure_disk(at, errors)),
    ("scaleIO", "scaleIO", |at, _, errors| volumes::scale_io(at, errors)),
    ("local", "local", local),
    ("storageos", "storageos", |at, _, errors| volumes::storage_os(at, errors)),
    ("csi", "csi", csi),
];

pub fn volume(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let root = At::root(object);
    let spec = root.at("spec");
    if spec.list("accessModes").is_empty() {
        errors.push(spec.at("accessModes").required(""));
    }
    claim::access_modes(&spec, &mut errors);
    capacity(&spec, &mut errors);
    let policy = spec.at("persistentVolumeReclaimPolicy");
    if !policy.str().is_empty() {
        policy.one_of(&mut errors, &["Delete", "Recycle", "Retain"]);
    }
    if let Some(affinity) = spec.some("nodeAffinity") {
        match affinity.some("required") {
            Some(required) => scheduling::node_selector(&required, &mut errors),
            None => errors.push(affinity.at("required").required("must specify required node constraints")),
        }
    }
    sources(&spec, root.at("metadata").text("name"), &mut errors);
    let path = spec.at("hostPath");
    let is_root = path.text("path").split('/').all(|part| part.is_empty() || part == ".");
    if path.value().is_some() && is_root && path.filled("path") && policy.str() == "Recycle" {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    if spec.filled("storageClassName") {
        spec.at("storageClassName").check(&mut errors, names::dns_subdomain);
    }
    if let Some(mode) = spec.some("volumeMode") {
        mode.one_of(&mut errors, &claim::VOLUME_MODES);
    }
    if let Some(class) = spec.some("volumeAttributesClassName") {
        if class.str().is_empty() {
            errors.push(class.required("an empty string is disallowed"));
        } else {
            class.check(&mut errors, names::dns_subdomain);
        }
        if !spec.has("csi") {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(spec.at("csi").required(detail));
        }
    }
    errors
}

fn capacity(spec: &At<'_>, errors: &mut ErrorList) {
    let at = spec.at("capacity");
    let amounts_given = at.value().and_then(Value::as_object).map_or(0, Map::len);
    if amounts_given == 0 {
        errors.push(at.required(""));
    }
    if amounts_given != 1 || at.get("storage").is_none() {
        let shown = at.value().cloned().unwrap_or_default();
        errors.push(Error::not_supported(at.path(), shown, &["storage"]));
    }
    for (_, amount) in spec.entries("capacity") {
        claim::basic(&amount, errors);
        amounts::positive(&amount, errors);
    }
}

fn sources(spec: &At<'_>, name: &str, errors: &mut ErrorList) {
    let mut found = 0;
    for (field, path, check) in SOURCES.iter().filter(|(field, ..)| spec.has(field)) {
        // Upstream overlooks a FlexVolume beside others.
        if found > 0 && *field != "flexVolume" {
            let second = if *field == "cephfs" { "cephFS" } else { field };
            errors.push(spec.named(field, second).forbidden("may not specify more than 1 volume type"));
        } else {
            check(&spec.named(field, path), name, errors);
            if *field == "local" && !spec.has("nodeAffinity") {
                errors.push(spec.at("nodeAffinity").required("Local volume requires node affinity"));
            }
        }
        found += 1;
    }
    if found == 0 {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn glusterfs(at: &At<'_>, _: &str, errors: &mut ErrorList) {
    at.at("endpoints").require_text(errors);
    at.at("path").require_text(errors);
    if let Some(namespace) = at.some("endpointsNamespace") {
        if namespace.str().is_empty() {
            errors.push(
                namespace.invalid("if the endpointnamespace is set, it must be a valid namespace name"),
            );
        } else {
            namespace.check(errors, names::dns_label);
        }
    }
}

fn iscsi(at: &At<'_>, volume: &str, errors: &mut ErrorList) {
    at.at("targetPortal").require_text(errors);
    let initiator = at.named("initiatorName", "initiatorname");
    if initiator.value().is_some() && volume.len() + 1 + at.text("targetPortal").len() > 64 {
        errors.push(at.named("targetPortal", "targetportal").invalid(volumes::PORTAL_TOO_LONG));
    }
    let iqn = at.at("iqn");
    if iqn.str().is_empty() {
        errors.push(iqn.required(""));
    } else if volumes::iscsi_name(iqn.str()).is_some() {
        errors.push(iqn.invalid("must be valid format"));
    }
    at.at("lun").check_int(errors, |lun| names::in_range(lun, 0, 255));
    let secret = at.at("secretRef");
    if (at.flag("chapAuthDiscovery") || at.flag("chapAuthSession")) && secret.value().is_none() {
        errors.push(secret.required(""));
    }
    volumes::secret_name(at, false, errors);
    if initiator.value().is_some() && volumes::iscsi_name(initiator.str()).is_some() {
        errors.push(initiator.invalid("must be valid format"));
    }
}

fn cinder(at: &At<'_>, _: &str, errors: &mut ErrorList) {
    at.at("volumeID").require_text(errors);
    volumes::secret_name(at, true, errors);
}

fn azure_file(at: &At<'_>, _: &str, errors: &mut ErrorList) {
    at.at("secretName").require_text(errors);
    at.at("shareName").require_text(errors);
    if let Some(namespace) = at.some("secretNamespace") {
        namespace.require_text(errors);
    }
}

fn local(at: &At<'_>, _: &str, errors: &mut ErrorList) {
    let path = at.at("path");
    if path.str().is_empty() {
        errors.push(path.required(""));
    } else if path.str().split('/').any(|part| part == "..") {
        errors.push(path.invalid("must not contain '..'"));
    }
}

fn csi(at: &At<'_>, _: &str, errors: &mut ErrorList) {
    volumes::csi_driver_name(&at.at("driver"), errors);
    at.at("volumeHandle").require_text(errors);
    let secrets = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    for secret in secrets.into_iter().filter_map(|field| at.some(field)) {
        secret.at("name").require(errors, names::dns_subdomain);
        secret.at("namespace").require(errors, names::dns_label);
    }
}

pub fn update(object: &Value, old: &Value) -> ErrorList {
    let mut errors = volume(object);
    let (spec, was) = (At::root(object).at("spec"), At::root(old).at("spec"));
    let source = |spec: &At<'_>| -> Value {
        let fields =
            SOURCES.iter().filter_map(|(field, ..)| Some(((*field).to_owned(), spec.get(field)?.clone())));
        Value::Object(fields.collect())
    };
    let (mut new, before) = (source(&spec), source(&was));
    let had = before.get("csi").is_some_and(|csi| csi.get("controllerExpandSecretRef").is_some());
    if let (false, Some(csi)) = (had, new.get_mut("csi").and_then(Value::as_object_mut)) {
        csi.remove("controllerExpandSecretRef");
    }
    if new != before {
        let path = spec.path().child("persistentvolumesource");
        let shown = diff(&before, &new);
        errors.push(Error::forbidden(
            &path,
            format!("spec.persistentvolumesource is immutable after creation\n{shown}"),
        ));
    }
    let mode = At::new(spec.get("volumeMode"), Path::new("volumeMode"));
    mode.immutable(&mut errors, &was.at("volumeMode"));
    if was.has("nodeAffinity") && !same(spec.get("nodeAffinity"), was.get("nodeAffinity")) {
        let shown = spec.get("nodeAffinity").cloned().unwrap_or_default();
        let detail = format!("{IMMUTABLE}, except for updating from beta label to GA");
        errors.push(Error::invalid(&Path::new("nodeAffinity"), shown, detail));
    }
    let class = spec.at("volumeAttributesClassName");
    if was.has("volumeAttributesClassName") && class.value().is_none() {
        errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::core::persistent_volume::PersistentVolume;
    use crate::resources::testing::{check, check_updates};

    #[test]
    fn volumes_are_held_to_upstreams_rules() {
        let valid = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/d"}},
        });
        check(
            &PersistentVolume,
            volume,
            &valid,
            &[
                ("/spec/accessModes", json!([]), "spec.accessModes: Required value"),
                (
                    "/spec/accessModes",
                    json!(["X"]),
                    "spec.accessModes: Unsupported value: \"X\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                ),
                (
                    "/spec/capacity/storage",
                    json!("0"),
                    "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                ),
                ("/spec/hostPath", json!(null), "spec: Required value: must specify a volume type"),
                (
                    "/spec/local",
                    json!({"path": "/l"}),
                    "spec.local: Forbidden: may not specify more than 1 volume type",
                ),
                (
                    "/spec/persistentVolumeReclaimPolicy",
                    json!("X"),
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"X\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
                ),
            ],
        );
        check_updates(
            &PersistentVolume,
            update,
            &valid,
            &[
                (
                    "/spec/hostPath/path",
                    json!("/e"),
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n@@",
                ),
                ("/spec/capacity/storage", json!("2Gi"), ""),
            ],
        );
    }
}
