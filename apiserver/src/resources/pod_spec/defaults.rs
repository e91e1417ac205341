//! What Go code fills into a PodSpec, wherever it stands.

use serde_json::{Value, json};

use super::image;
use crate::resources::core::persistent_volume_claim;
use crate::resources::fill;

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const READABLE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;
const GRACE_SECONDS: i64 = 30;

/// A pod template of a workload, at `field`.
pub fn template(of: &mut Value, field: &str) {
    if let Some(spec) = of.get_mut(field).and_then(|template| template.get_mut("spec")) {
        self::spec(spec);
    }
}

pub fn spec(spec: &mut Value) {
    fill::zero(spec, "dnsPolicy", "ClusterFirst");
    fill::zero(spec, "restartPolicy", "Always");
    fill::nil(spec, "securityContext", json!({}));
    fill::nil(spec, "terminationGracePeriodSeconds", GRACE_SECONDS);
    fill::zero(spec, "schedulerName", "default-scheduler");
    fill::items(spec, "volumes").for_each(volume);
    for field in CONTAINERS {
        fill::items(spec, field).for_each(container);
    }
    fill::round_up(spec, "overhead");
    if let Some(resources) = spec.get_mut("resources") {
        self::resources(resources);
    }
}

fn resources(resources: &mut Value) {
    fill::round_up(resources, "limits");
    fill::round_up(resources, "requests");
}

fn container(container: &mut Value) {
    let policy = image::pull_policy(container.get("image").and_then(Value::as_str).unwrap_or_default());
    fill::zero(container, "imagePullPolicy", policy);
    fill::zero(container, "terminationMessagePath", "/dev/termination-log");
    fill::zero(container, "terminationMessagePolicy", "File");
    for port in fill::items(container, "ports") {
        fill::zero(port, "protocol", "TCP");
    }
    for variable in fill::items(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            fill::zero(field, "apiVersion", "v1");
        }
        if let Some(file) = variable.pointer_mut("/valueFrom/fileKeyRef") {
            fill::nil(file, "optional", false);
        }
    }
    if let Some(resources) = container.get_mut("resources") {
        self::resources(resources);
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(field) {
            self::probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) =
            container.get_mut("lifecycle").and_then(|l| l.get_mut(hook)).and_then(|h| h.get_mut("httpGet"))
        {
            http_get(get);
        }
    }
}

fn probe(probe: &mut Value) {
    fill::zero(probe, "timeoutSeconds", 1);
    fill::zero(probe, "periodSeconds", 10);
    fill::zero(probe, "successThreshold", 1);
    fill::zero(probe, "failureThreshold", 3);
    if let Some(get) = probe.get_mut("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.get_mut("grpc") {
        fill::nil(grpc, "service", "");
    }
}

fn http_get(get: &mut Value) {
    fill::zero(get, "path", "/");
    fill::zero(get, "scheme", "HTTP");
}

fn volume(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    if fields.iter().all(|(name, value)| name == "name" || value.is_null()) {
        fields.insert("emptyDir".to_owned(), json!({}));
        return;
    }
    let name = fields.keys().find(|name| *name != "name").cloned().unwrap_or_default();
    let Some(source) = fields.get_mut(&name) else { return };
    match name.as_str() {
        "secret" | "configMap" => fill::nil(source, "defaultMode", READABLE),
        "downwardAPI" => {
            fill::nil(source, "defaultMode", READABLE);
            fill::items(source, "items").for_each(downward_file);
        }
        "projected" => projected(source),
        "hostPath" => fill::nil(source, "type", ""),
        "image" => {
            let policy =
                image::pull_policy(source.get("reference").and_then(Value::as_str).unwrap_or_default());
            fill::zero(source, "pullPolicy", policy);
        }
        "ephemeral" => {
            if let Some(spec) = source.pointer_mut("/volumeClaimTemplate/spec") {
                persistent_volume_claim::default_spec(spec);
            }
        }
        _ => {}
    }
}

fn downward_file(file: &mut Value) {
    if let Some(field) = file.get_mut("fieldRef") {
        fill::zero(field, "apiVersion", "v1");
    }
}

fn projected(projected: &mut Value) {
    fill::nil(projected, "defaultMode", READABLE);
    for source in fill::items(projected, "sources") {
        if let Some(downward) = source.get_mut("downwardAPI") {
            fill::items(downward, "items").for_each(downward_file);
        }
        if let Some(token) = source.get_mut("serviceAccountToken") {
            fill::nil(token, "expirationSeconds", TOKEN_SECONDS);
        }
    }
}
