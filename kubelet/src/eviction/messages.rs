//! What evicted pods are told, in upstream's words; the blank at the end of a sentence is theirs.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::Shortage;
use super::observe::Observation;
use super::thresholds::Threshold;
use crate::pod::spec;
use crate::resources::amount;
use crate::stats::{ContainerUse, PodUse};

pub fn empty_dir(volume: &str, limit: &str) -> String {
    format!("Usage of EmptyDir volume {volume:?} exceeds the limit {limit:?}. ")
}

pub fn whole_pod(limit: &str) -> String {
    format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
}

pub fn container(name: &str, limit: &str) -> String {
    format!("Container {name} exceeded its local ephemeral storage limit {limit:?}. ")
}

/// What the node is short of, and which containers use more than they asked for.
pub fn shortage(
    threshold: &Threshold,
    seen: Option<&Observation>,
    pod: &Pod,
    used: Option<&PodUse>,
) -> String {
    let resource = threshold.signal.resource();
    let mut message = format!("The node was low on resource: {resource}. ");
    let show = |number: i64| match threshold.signal.shortage() {
        Shortage::Pid => number.to_string(),
        _ if resource == "inodes" => number.to_string(),
        _ => amount::bytes(number).0,
    };
    if let Some(seen) = seen {
        let (quantity, available) = (show(threshold.amount.of(seen.capacity)), show(seen.available));
        message.push_str(&format!("Threshold quantity: {quantity}, available: {available}. "));
    }
    let Some(used) = used else { return message };
    let all = spec::containers(pod).iter().chain(spec::init_containers(pod));
    for wanted in all {
        let Some(found) = used.containers.iter().find(|c| c.seen.name == wanted.name) else { continue };
        let Some(bytes) = usage(resource, found) else { continue };
        let request = requested(wanted, resource);
        if bytes > request.0 {
            message.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                wanted.name,
                amount::bytes(bytes).0,
                request.1
            ));
        }
    }
    message
}

fn usage(resource: &str, container: &ContainerUse) -> Option<i64> {
    let bytes = match resource {
        "memory" => container.stats.memory_working_set,
        "ephemeral-storage" => container.rootfs.bytes.saturating_add(container.logs.bytes),
        _ => return None,
    };
    i64::try_from(bytes).ok()
}

fn requested(container: &Container, resource: &str) -> (i64, String) {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let quantity = requests.and_then(|requests| requests.get(resource));
    quantity.map_or((0, "0".to_owned()), |quantity| (amount::value(quantity), quantity.0.clone()))
}

/// Why no pod is admitted now.
pub fn condition(shortages: &[Shortage]) -> String {
    let names: Vec<&str> = shortages.iter().map(|shortage| shortage.condition()).collect();
    format!("The node had condition: [{}]. ", names.join(" "))
}
