//! Whether a pod may run here: the node's own last word after the scheduler's.

use k8s_openapi::api::core::v1::{Pod, Taint};

use crate::eviction::{self, Shortage};
use crate::pod::spec;
use crate::resources::amount::{self, List};
use crate::resources::pod::{Which, total};
use crate::status::qos::{self, QosClass};

use super::affinity;

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Checks against what the node has and what its other pods hold. `others` are admitted pods that have not ended.
pub fn admit<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: Node<'_>,
) -> Result<(), Rejection> {
    check_pressure(pod, node.shortages)?;
    check_sysctls(pod, node.allowed_unsafe_sysctls)?;
    check_os(pod, node.labels)?;
    check_resources(pod, others.clone(), node.allocatable)?;
    affinity::check(pod, node)?;
    affinity::check_ports(pod, others)?;
    affinity::check_taints(pod, node.taints)
}

/// What the node has and how it is.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    pub name: &'a str,
    pub allocatable: &'a List,
    pub labels: &'a std::collections::BTreeMap<String, String>,
    pub taints: &'a [Taint],
    pub allowed_unsafe_sysctls: &'a [String],
    pub shortages: &'a [Shortage],
}

/// A node that is short of something takes no more of what would make it worse.
fn check_pressure(pod: &Pod, shortages: &[Shortage]) -> Result<(), Rejection> {
    if shortages.is_empty() || eviction::is_critical(pod) {
        return Ok(());
    }
    if shortages == [Shortage::Memory] {
        let taint = Taint {
            key: "node.kubernetes.io/memory-pressure".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let mut tolerations = spec::spec(pod).tolerations.iter().flatten();
        let tolerated = tolerations.any(|toleration| affinity::tolerates(toleration, &taint));
        if tolerated || qos::of(pod) != QosClass::BestEffort {
            return Ok(());
        }
    }
    reject(eviction::REASON, eviction::messages::condition(shortages))
}

fn reject(reason: &str, message: impl Into<String>) -> Result<(), Rejection> {
    Err(Rejection { reason: reason.to_owned(), message: message.into() })
}

fn check_os(pod: &Pod, labels: &std::collections::BTreeMap<String, String>) -> Result<(), Rejection> {
    const OS: &str = "kubernetes.io/os";
    let selected = spec::spec(pod).node_selector.as_ref().and_then(|selector| selector.get(OS));
    if selected.is_some_and(|os| Some(os) != labels.get(OS)) {
        return reject(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if spec::spec(pod).os.as_ref().is_some_and(|os| os.name != "linux") {
        return reject("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    Ok(())
}

fn check_sysctls(pod: &Pod, allowed: &[String]) -> Result<(), Rejection> {
    let sysctls = spec::spec(pod).security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    for sysctl in sysctls.into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let allowed = SAFE_SYSCTLS.contains(&name.as_str())
            || allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == *pattern,
            });
        if !allowed {
            return reject("SysctlForbidden", format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        let (network, ipc) =
            (name.starts_with("net."), name.starts_with("kernel.") || name.starts_with("fs.mqueue."));
        if network && spec::host_network(pod) {
            return reject(
                "SysctlForbidden",
                format!("forbidden sysctl: {name:?} not allowed with host net enabled"),
            );
        }
        if ipc && spec::spec(pod).host_ipc.unwrap_or(false) {
            return reject(
                "SysctlForbidden",
                format!("forbidden sysctl: {name:?} not allowed with host ipc enabled"),
            );
        }
    }
    Ok(())
}

fn check_resources<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod>,
    allocatable: &List,
) -> Result<(), Rejection> {
    let wanted = total(pod, Which::Requests);
    let (mut count, mut used) = (0i64, std::collections::BTreeMap::<String, i64>::new());
    for other in others {
        count += 1;
        for (name, milli) in total(other, Which::Requests) {
            *used.entry(name).or_default() += milli;
        }
    }
    let capacity_pods = amount::value_of(Some(allocatable), "pods").unwrap_or(i64::MAX);
    if count + 1 > capacity_pods {
        return not_enough("OutOfpods", "pods", 1, count, capacity_pods);
    }
    let ordered = ["cpu", "memory", "ephemeral-storage"];
    let rest = wanted.keys().map(String::as_str).filter(|name| !ordered.contains(name));
    for name in ordered.into_iter().chain(rest) {
        let Some(request) = wanted.get(name).copied().filter(|request| *request > 0) else { continue };
        // Extended resources this node has never heard of are somebody else's to account for.
        let Some(quantity) = allocatable.get(name) else { continue };
        let (capacity, held) = (amount::milli(quantity), used.get(name).copied().unwrap_or(0));
        if request + held > capacity {
            let unit = if name == "cpu" { 1 } else { 1000 };
            return not_enough(&format!("OutOf{name}"), name, request / unit, held / unit, capacity / unit);
        }
    }
    Ok(())
}

fn not_enough(reason: &str, name: &str, requested: i64, used: i64, capacity: i64) -> Result<(), Rejection> {
    reject(
        reason,
        format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    fn pod(cpu: &str) -> Pod {
        let requests = [("cpu".to_owned(), Quantity(cpu.into()))].into();
        Pod {
            spec: Some(PodSpec {
                containers: vec![Container {
                    resources: Some(ResourceRequirements {
                        requests: Some(requests),
                        ..ResourceRequirements::default()
                    }),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            ..Pod::default()
        }
    }

    #[test]
    fn a_full_node_says_what_is_missing() {
        let allocatable: List =
            [("cpu".to_owned(), Quantity("2".into())), ("pods".to_owned(), Quantity("2".into()))].into();
        let labels = [("kubernetes.io/os".to_owned(), "linux".to_owned())].into();
        let node = Node {
            name: "n1",
            allocatable: &allocatable,
            labels: &labels,
            taints: &[],
            allowed_unsafe_sysctls: &[],
            shortages: &[],
        };
        let try_with = |pod: &Pod, others: &[Pod]| admit(pod, others.iter(), node);
        assert_eq!(try_with(&pod("1"), &[pod("1")]), Ok(()));
        let full = try_with(&pod("1500m"), &[pod("1")]).expect_err("too much");
        assert_eq!(full.reason, "OutOfcpu");
        assert_eq!(
            full.message,
            "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000"
        );
        assert_eq!(try_with(&pod("0"), &[pod("0"), pod("0")]).expect_err("full").reason, "OutOfpods");
    }

    #[test]
    fn a_node_short_of_memory_refuses_best_effort_and_one_short_of_disk_all() {
        let pods = |pod: &Pod, shortages: &[Shortage]| check_pressure(pod, shortages).is_ok();
        let best_effort = Pod::default();
        assert!(!pods(&best_effort, &[Shortage::Memory]));
        assert!(pods(&pod("1"), &[Shortage::Memory]));
        let refused = check_pressure(&pod("1"), &[Shortage::Memory, Shortage::Disk]).expect_err("no disk");
        assert_eq!(refused.message, "The node had condition: [MemoryPressure DiskPressure]. ");
        let mut critical = pod("1");
        critical.spec.as_mut().expect("there").priority = Some(2_000_000_000);
        assert!(pods(&critical, &[Shortage::Disk]));
    }
}
