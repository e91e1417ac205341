//! The status of a DaemonSet. Pure.

use k8s_openapi::api::apps::v1::DaemonSetStatus;
use knarr_client::Cached;

use super::{
    fit::{self, Fit},
    place::View,
};
use crate::pods;

pub(super) fn calculate(view: &View<'_>, collisions: i32) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        observed_generation: view.set.metadata.generation,
        collision_count: Some(collisions).filter(|&count| count != 0),
        conditions: view.set.status.as_ref().and_then(|status| status.conditions.clone()),
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for node in view.nodes {
        let scheduled = view.by_node.get(node.name()).map(Vec::as_slice).unwrap_or_default();
        if !Fit::of(view.set, node).should_run {
            status.number_misscheduled += i32::from(!scheduled.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        let oldest = scheduled.iter().min_by_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (
                pods::node_name(pod).is_empty(),
                pods::phase(pod) != "Running",
                created,
                pod.metadata.name.clone(),
            )
        });
        let Some(pod) = oldest else { continue };
        status.current_number_scheduled += 1;
        if pods::is_ready(pod) {
            status.number_ready += 1;
            available += i32::from(view.is_available(pod));
        }
        updated += i32::from(fit::hash(pod) == view.hash);
    }
    status.number_available = Some(available).filter(|&count| count != 0);
    status.updated_number_scheduled = Some(updated).filter(|&count| count != 0);
    status.number_unavailable = Some(status.desired_number_scheduled - available).filter(|&count| count != 0);
    status
}
