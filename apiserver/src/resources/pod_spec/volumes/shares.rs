//! File shares and drivers of old.

use knarr_api::field::ErrorList;

use super::Volume;
use crate::resources::at::At;

pub fn nfs(at: &At<'_>, errors: &mut ErrorList) {
    at.at("server").require_text(errors);
    let path = at.at("path");
    path.require_text(errors);
    if !path.str().starts_with('/') {
        errors.push(path.invalid("must be an absolute path"));
    }
}

pub fn glusterfs(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    at.at("endpoints").require_text(errors);
    at.at("path").require_text(errors);
}

pub fn flocker(at: &At<'_>, errors: &mut ErrorList) {
    match (at.filled("datasetName"), at.filled("datasetUUID")) {
        (false, false) => errors.push(at.required("one of datasetName and datasetUUID is required")),
        (true, true) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(at.invalid_as("resource", detail));
        }
        _ => {}
    }
    if at.text("datasetName").contains('/') {
        errors.push(at.at("datasetName").invalid("must not contain '/'"));
    }
}

pub fn ceph_fs(at: &At<'_>, errors: &mut ErrorList) {
    if at.list("monitors").is_empty() {
        errors.push(at.at("monitors").required(""));
    }
}

pub fn quobyte(at: &At<'_>, errors: &mut ErrorList) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = at.at("registry");
    if registry.str().is_empty() {
        errors.push(registry.required(PAIRS));
    } else if at.text("tenant").len() >= 65 {
        errors.push(at.at("tenant").required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let wrong = registry.str().split(',').filter(|pair| !is_host_port(pair));
        errors.extend(wrong.map(|_| registry.invalid(PAIRS)));
    }
    at.at("volume").require_text(errors);
}

fn is_host_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => {
            rest.split_once("]:").is_some_and(|(host, port)| !host.contains('[') && !port.contains(':'))
        }
        None => pair.split_once(':').is_some_and(|(_, port)| !port.contains([':', '[', ']'])),
    }
}

pub fn flex(at: &At<'_>, errors: &mut ErrorList) {
    at.at("driver").require_text(errors);
    for (key, option) in at.entries("options") {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let namespace = format!(".{}", namespace.to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            errors.push(option.invalid_as(key, "kubernetes.io and k8s.io namespaces are reserved"));
        }
    }
}

pub fn azure_file(at: &At<'_>, _: &Volume<'_>, errors: &mut ErrorList) {
    at.at("secretName").require_text(errors);
    at.at("shareName").require_text(errors);
}
