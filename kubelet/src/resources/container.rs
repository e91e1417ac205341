//! One container's cgroup settings and OOM score, from its requests and limits.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_runtime::cri::Resources;

use super::amount;
use crate::pod::spec;
use crate::status::qos::{self, QosClass};

const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA_MICROS: i64 = 1000;
const GUARANTEED_OOM_SCORE: i64 = -997;
const BEST_EFFORT_OOM_SCORE: i64 = 1000;
/// Pods of at least this priority are the system's own.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// cgroup v1 shares for a CPU request.
pub fn shares(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// Microseconds per period for a CPU limit; 0 for none.
pub fn quota(milli_cpu: i64, period: Duration) -> i64 {
    let period = i64::try_from(period.as_micros()).unwrap_or(100_000);
    if milli_cpu <= 0 { 0 } else { (milli_cpu.saturating_mul(period) / 1000).max(MIN_QUOTA_MICROS) }
}

/// The node's part in a container's resources.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub memory_capacity: i64,
    pub enforce_quota: bool,
    pub period: Duration,
}

pub fn resources(pod: &Pod, container: &Container, node: Node) -> Resources {
    let given = container.resources.as_ref();
    let (requests, limits) = (given.and_then(|r| r.requests.as_ref()), given.and_then(|r| r.limits.as_ref()));
    let cpu_limit = amount::milli_of(limits, "cpu");
    let cpu_request = amount::milli_of(requests, "cpu").filter(|m| *m > 0).or(cpu_limit).unwrap_or(0);
    let own_limits = spec::spec(pod).resources.as_ref().and_then(|r| r.limits.as_ref());
    // Containers without a limit of their own may use the pod's.
    let cpu_limit = cpu_limit.or_else(|| amount::milli_of(own_limits, "cpu")).unwrap_or(0);
    let memory =
        amount::value_of(limits, "memory").or_else(|| amount::value_of(own_limits, "memory")).unwrap_or(0);
    Resources {
        cpu_shares: shares(cpu_request),
        cpu_quota: if node.enforce_quota { quota(cpu_limit, node.period) } else { 0 },
        cpu_period: i64::try_from(node.period.as_micros()).unwrap_or(100_000),
        memory_limit: memory,
        oom_score_adj: oom_score(pod, container, node.memory_capacity),
        hugepage_limits: limits
            .into_iter()
            .flatten()
            .filter_map(|(name, quantity)| {
                let size = name.strip_prefix("hugepages-")?.replace('i', "B");
                Some((size, u64::try_from(amount::value(quantity)).ok()?))
            })
            .collect(),
        ..Resources::default()
    }
}

/// The more memory a burstable container asked for, the later it is killed.
pub fn oom_score(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if spec::spec(pod).priority.unwrap_or(0) >= SYSTEM_CRITICAL_PRIORITY {
        return GUARANTEED_OOM_SCORE;
    }
    match qos::of(pod) {
        QosClass::Guaranteed => GUARANTEED_OOM_SCORE,
        QosClass::BestEffort => BEST_EFFORT_OOM_SCORE,
        QosClass::Burstable => {
            let own = burstable_score(memory_request(container), memory_capacity);
            if !spec::is_restartable_init(container) {
                return own;
            }
            // A sidecar goes no sooner than the containers it serves.
            let smallest = spec::containers(pod).iter().map(memory_request).min().unwrap_or(0);
            own.min(burstable_score(smallest, memory_capacity))
        }
    }
}

fn memory_request(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    amount::value_of(requests, "memory").unwrap_or(0)
}

fn burstable_score(request: i64, capacity: i64) -> i64 {
    let share = i128::from(request) * 1000 / i128::from(capacity.max(1));
    let score = 1000 - i64::try_from(share).unwrap_or(1000);
    score.clamp(1000 + GUARANTEED_OOM_SCORE, BEST_EFFORT_OOM_SCORE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_becomes_shares_and_quota() {
        for (milli, expected) in [(0, 2), (1, 2), (100, 102), (1000, 1024), (1_000_000, 262_144)] {
            assert_eq!(shares(milli), expected);
        }
        let period = Duration::from_millis(100);
        for (milli, expected) in [(0, 0), (1, 1000), (250, 25_000), (2000, 200_000)] {
            assert_eq!(quota(milli, period), expected);
        }
    }

    #[test]
    fn burstable_scores_stay_between_the_other_classes() {
        assert_eq!(burstable_score(0, 1 << 30), 999);
        assert_eq!(burstable_score(1 << 29, 1 << 30), 500);
        assert_eq!(burstable_score(1 << 31, 1 << 30), 3);
    }
}
