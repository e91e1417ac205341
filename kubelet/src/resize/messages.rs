//! Messages of resize events: a word and the resources asked for, as JSON in upstream's order of fields.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::Serialize;

use crate::pod::spec;

#[derive(Serialize)]
struct OfContainer<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<OfContainer<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<OfContainer<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

fn summary(pod: &Pod, generation: i64, error: &str, prefix: &str) -> String {
    let summary = Summary {
        init_containers: resources(spec::init_containers(pod)),
        containers: resources(spec::containers(pod)),
        generation,
        error,
    };
    match serde_json::to_string(&summary) {
        Ok(text) => format!("{prefix}: {text}"),
        Err(_) => prefix.to_owned(),
    }
}

fn resources(containers: &[Container]) -> Vec<OfContainer<'_>> {
    let one = |c: &'_ Container| c.resources.clone().unwrap_or_default();
    containers.iter().map(|c| OfContainer { name: &c.name, resources: one(c) }).collect()
}

pub fn started(pod: &Pod) -> String {
    summary(pod, pod.metadata.generation.unwrap_or(0), "", "Pod resize started")
}

pub fn completed(pod: &Pod, generation: i64) -> String {
    summary(pod, generation, "", "Pod resize completed")
}

pub fn failed(pod: &Pod, generation: i64, error: &str) -> String {
    summary(pod, generation, error, "Pod resize error")
}

pub fn pending(pod: &Pod, reason: &str, message: &str) -> String {
    let prefix = format!("Pod resize {reason}");
    summary(pod, pod.metadata.generation.unwrap_or(0), message, &prefix)
}
