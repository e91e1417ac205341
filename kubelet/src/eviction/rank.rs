//! Who goes first: pods above their requests, then the less important, then those furthest above.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Shortage;
use super::observe::Signal;
use crate::pod::spec;
use crate::resources::pod::{Which, total, whole};
use crate::stats::PodUse;

/// Pods in the order they are to go. What nothing is known of goes before the rest.
pub fn order(mut pods: Vec<Arc<Pod>>, used: &[PodUse], signal: Signal) -> Vec<Arc<Pod>> {
    let by_uid: HashMap<&str, &PodUse> = used.iter().map(|used| (spec::uid(&used.pod), used)).collect();
    pods.sort_by_cached_key(|pod| {
        let priority = spec::spec(pod).priority.unwrap_or(0);
        let Some(used) = by_uid.get(spec::uid(pod)) else { return (false, false, priority, Reverse(0)) };
        let (amount, requested) = match signal.shortage() {
            Shortage::Memory => (signed(used.whole.memory_working_set), request(pod, "memory")),
            // Nobody asks for processes: only the number counts.
            Shortage::Pid => return (true, false, priority, Reverse(signed(used.whole.processes))),
            Shortage::Disk if signal.resource() == "inodes" => (signed(used.ephemeral().inodes), 0),
            Shortage::Disk => (signed(used.ephemeral().bytes), request(pod, "ephemeral-storage")),
        };
        (true, amount <= requested, priority, Reverse(amount.saturating_sub(requested)))
    });
    pods
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn request(pod: &Pod, resource: &str) -> i64 {
    total(pod, Which::Requests).get(resource).map_or(0, |milli| whole(*milli))
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_runtime::cri::ContainerStats;
    use serde_json::json;

    fn used(name: &str, priority: i32, request: &str, working_set: u64) -> PodUse {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name},
            "spec": {"priority": priority, "containers": [
                {"name": "main", "resources": {"requests": {"memory": request}}},
            ]},
        }))
        .expect("a pod");
        PodUse {
            pod: Arc::new(pod),
            started: 0,
            whole: ContainerStats { memory_working_set: working_set, ..ContainerStats::default() },
            cpu_rate: None,
            containers: Vec::new(),
            volumes: Vec::new(),
            network: Vec::new(),
        }
    }

    #[test]
    fn above_the_request_comes_before_priority_and_priority_before_size() {
        let all = [
            used("modest", 0, "1000", 900),
            used("important", 10, "100", 5000),
            used("small", 0, "100", 200),
            used("large", 0, "100", 900),
        ];
        let mut pods: Vec<Arc<Pod>> = all.iter().map(|used| used.pod.clone()).collect();
        let mut unknown = (*pods[0]).clone();
        unknown.metadata.uid = Some("unknown".into());
        unknown.metadata.name = Some("unknown".into());
        pods.push(Arc::new(unknown));
        let order = order(pods, &all, Signal::MemoryAvailable);
        let names: Vec<&str> = order.iter().map(|pod| spec::name(pod)).collect();
        assert_eq!(names, ["unknown", "large", "small", "important", "modest"]);
    }
}
