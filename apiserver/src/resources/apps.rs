//! The apps group.

pub mod controller_revision;
pub mod daemon_set;
pub mod deployment;
pub mod replica_set;
pub mod stateful_set;
#[cfg(test)]
mod tests;

use knarr_api::field::ErrorList;

use super::at::At;
use super::pod_spec::workload;

/// Deployments and ReplicaSets choose their pods in the same way.
fn selector_and_template(spec: &At<'_>, errors: &mut ErrorList) {
    workload::selector(spec, "deployment", errors);
    match deployment::parsed_selector(spec) {
        Some(selector) => workload::lasting_template(spec, &selector, "ReplicaSet", errors),
        None => errors.push(spec.at("selector").invalid("invalid label selector")),
    }
}
