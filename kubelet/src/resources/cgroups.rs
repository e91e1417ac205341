//! The cgroup hierarchy above containers: one root, a branch per QoS class, a leaf per pod.

use k8s_openapi::api::core::v1::Pod;
use knarr_runtime::cri::Resources;

use super::container::{quota, shares};
use super::pod::{self, Which};
use crate::config::Config;
use crate::pod::spec;
use crate::status::qos::{self, QosClass};

/// The branch pods of a class hang on; guaranteed ones hang on the root.
pub fn branch(root: &str, class: QosClass) -> String {
    match class {
        QosClass::Guaranteed => root.to_owned(),
        QosClass::Burstable => format!("{root}/burstable"),
        QosClass::BestEffort => format!("{root}/besteffort"),
    }
}

/// The cgroup of a pod.
pub fn of_pod(root: &str, pod: &Pod) -> String {
    format!("{}/pod{}", branch(root, qos::of(pod)), spec::uid(pod))
}

/// The uid in a pod cgroup's last part.
pub fn uid_of(cgroup: &str) -> Option<&str> {
    cgroup.rsplit('/').next()?.strip_prefix("pod")
}

/// Settings of a pod's cgroup: limits only where all containers have one.
pub fn pod_resources(config: &Config, pod: &Pod) -> Resources {
    let (requests, limits) = (pod::total(pod, Which::Requests), pod::total(pod, Which::Limits));
    let of = |list: &pod::Milli, name: &str| list.get(name).copied().unwrap_or(0);
    let mut resources = Resources {
        cpu_period: i64::try_from(config.cpu_cfs_quota_period.as_micros()).unwrap_or(100_000),
        cpu_shares: shares(of(&requests, "cpu").max(if requests.contains_key("cpu") {
            0
        } else {
            of(&limits, "cpu")
        })),
        pids_limit: config.pod_pids_limit.max(0),
        ..Resources::default()
    };
    match qos::of(pod) {
        QosClass::BestEffort => resources.cpu_shares = shares(0),
        QosClass::Guaranteed | QosClass::Burstable => {
            if config.cpu_cfs_quota && pod::all_limited(pod, "cpu") {
                resources.cpu_quota = quota(of(&limits, "cpu"), config.cpu_cfs_quota_period);
            }
            if pod::all_limited(pod, "memory") {
                resources.memory_limit = pod::whole(of(&limits, "memory"));
            }
        }
    }
    resources
}

/// CPU that burstable pods ask for, by uid: together they set the weight of their branch.
#[derive(Debug, Default)]
pub struct Burstable(parking_lot::Mutex<std::collections::HashMap<String, i64>>);

impl Burstable {
    /// Counts the pod; the new sum, for a burstable one that was not counted.
    pub fn add(&self, pod: &Pod) -> Option<i64> {
        if qos::of(pod) != QosClass::Burstable {
            return None;
        }
        let request = pod::total(pod, Which::Requests).get("cpu").copied().unwrap_or(0);
        let mut pods = self.0.lock();
        let before = pods.insert(spec::uid(pod).to_owned(), request);
        (before != Some(request)).then(|| pods.values().sum())
    }

    /// The new sum, where the pod was counted.
    pub fn remove(&self, uid: &str) -> Option<i64> {
        let mut pods = self.0.lock();
        pods.remove(uid).map(|_| pods.values().sum())
    }
}

/// Settings of a class's branch, given the CPU its pods ask for together.
pub fn class_resources(class: QosClass, milli_cpu: i64) -> Resources {
    let milli_cpu = if class == QosClass::BestEffort { 0 } else { milli_cpu };
    Resources { cpu_shares: shares(milli_cpu), ..Resources::default() }
}
