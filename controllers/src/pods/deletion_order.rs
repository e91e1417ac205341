//! Which pods go first when there are too many.

use std::cmp::Reverse;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Time};

use super::{is_ready, node_name, phase, ready_condition};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts pods so that those to be deleted first come first: not scheduled, not running, not ready, cheap to
/// delete, crowded on their node (`crowd`), ready for a shorter time, restarted more often, younger.
///
/// Ages are compared by their order of magnitude, and equal ones by uid, which spreads the victims at random.
pub(crate) fn sort<P: AsRef<Pod>>(pods: &mut [P], now: Timestamp, crowd: impl Fn(&str) -> usize) {
    pods.sort_by_cached_key(|pod| key(pod.as_ref(), now, &crowd));
}

type Key = (bool, u8, bool, i32, Reverse<usize>, i64, Reverse<(i32, i32)>, i64, Option<String>);

fn key(pod: &Pod, now: Timestamp, crowd: &impl Fn(&str) -> usize) -> Key {
    let node = node_name(pod);
    let ready_since = ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref());
    (
        !node.is_empty(),
        match phase(pod) {
            "Pending" => 0,
            "Unknown" => 1,
            _ => 2,
        },
        is_ready(pod),
        deletion_cost(pod),
        Reverse(crowd(node)),
        if is_ready(pod) { magnitude(ready_since, now) } else { 0 },
        Reverse(restarts(pod)),
        magnitude(pod.metadata.creation_timestamp.as_ref(), now),
        pod.metadata.uid.clone(),
    )
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotation = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    annotation.and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

/// The binary order of magnitude of an age; below zero when there is none.
fn magnitude(since: Option<&Time>, now: Timestamp) -> i64 {
    let Some(since) = since else { return -2 };
    let age = now.duration_since(since.0).as_nanos();
    u128::try_from(age).ok().and_then(u128::checked_ilog2).map_or(-1, i64::from)
}

/// The highest number of restarts of a container, and of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let most = |statuses: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        statuses.iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
    };
    (most(&status.container_statuses), most(&status.init_container_statuses))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::pod, *};
    use std::sync::Arc;

    #[test]
    fn the_least_useful_pods_go_first() {
        let mut cheap = pod("cheap", "n1", "Running", Some(10));
        cheap.metadata.annotations = Some([(DELETION_COST.to_owned(), "-5".to_owned())].into());
        let mut pods = [
            pod("ready-long", "n1", "Running", Some(10)),
            pod("crowded", "n2", "Running", Some(10)),
            cheap,
            pod("ready-short", "n1", "Running", Some(999)),
            pod("not-ready", "n1", "Running", None),
            pod("pending", "n1", "Pending", None),
            pod("unscheduled", "", "Pending", None),
        ]
        .map(Arc::new);
        sort(&mut pods, Timestamp::from_second(1000).unwrap(), |node| usize::from(node == "n2"));
        let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(
            names,
            ["unscheduled", "pending", "not-ready", "cheap", "crowded", "ready-short", "ready-long"]
        );
    }
}
