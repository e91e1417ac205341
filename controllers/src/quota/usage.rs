//! What one object uses of what quotas limit. Pure.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement, Service,
    },
    apimachinery::pkg::api::resource::Quantity as Written,
};
use knarr_api::quantity::{Format, Quantity};

use crate::pods;

pub(super) type Amounts = BTreeMap<String, Quantity>;

pub(super) fn add(total: &mut Amounts, more: Amounts) {
    for (name, amount) in more {
        let sum = total.get(&name).map_or_else(|| amount.clone(), |sum| sum.add(&amount));
        total.insert(name, sum);
    }
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// Whether a name is about amounts that are measured here, and not about a number of objects of a kind.
pub(super) fn is_measured(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "pods",
        "cpu",
        "memory",
        "ephemeral-storage",
        "services",
        "services.nodeports",
        "services.loadbalancers",
        "persistentvolumeclaims",
        "count/pods",
        "count/services",
        "count/persistentvolumeclaims",
        "storage",
    ];
    NAMES.contains(&name)
        || name.starts_with("requests.")
        || name.starts_with("limits.")
        || name.starts_with("hugepages-")
        || name.contains(".storageclass.storage.k8s.io/")
}

fn read(amounts: Option<&BTreeMap<String, Written>>) -> Amounts {
    let all = amounts.into_iter().flatten();
    all.filter_map(|(name, amount)| Some((name.clone(), amount.0.parse().ok()?))).collect()
}

/// What a pod needs at its peak: its containers with its sidecars, or one init container with the sidecars started
/// before it, and its overhead.
fn pod_amounts(pod: &Pod, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let (mut running, mut sidecars, mut peak) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in &spec.containers {
        add(&mut running, of(container));
    }
    for container in spec.init_containers.iter().flatten() {
        let mut while_it_runs = sidecars.clone();
        add(&mut while_it_runs, of(container));
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.clone_from(&while_it_runs);
        }
        raise(&mut peak, while_it_runs);
    }
    add(&mut running, sidecars);
    raise(&mut peak, running);
    if !peak.is_empty() {
        add(&mut peak, read(spec.overhead.as_ref()));
    }
    peak
}

fn raise(peak: &mut Amounts, amounts: Amounts) {
    for (name, amount) in amounts {
        match peak.get(&name) {
            Some(known) if *known >= amount => {}
            _ => drop(peak.insert(name, amount)),
        }
    }
}

/// Whether a pod still counts: it has not ended, and is not stuck on its way out.
fn counts(pod: &Pod, now: Timestamp) -> bool {
    let meta = &pod.metadata;
    let overdue = meta.deletion_timestamp.as_ref().zip(meta.deletion_grace_period_seconds).is_some_and(
        |(at, grace)| {
            let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
            Duration::try_from(now.duration_since(at.0)).unwrap_or_default() > grace
        },
    );
    !pods::is_finished(pod) && !overdue
}

pub(super) fn of_pod(pod: &Pod, now: Timestamp) -> Amounts {
    let mut used = Amounts::from([("count/pods".to_owned(), one())]);
    if !counts(pod, now) {
        return used;
    }
    used.insert("pods".to_owned(), one());
    let requests = pod_amounts(pod, |container| {
        read(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    });
    for (name, amount) in requests {
        used.insert(format!("requests.{name}"), amount.clone());
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) || name.starts_with("hugepages-") {
            used.insert(name, amount);
        }
    }
    let limits = pod_amounts(pod, |container| {
        read(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
    });
    for (name, amount) in limits {
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
            used.insert(format!("limits.{name}"), amount);
        }
    }
    used
}

pub(super) fn of_service(service: &Service) -> Amounts {
    let spec = service.spec.clone().unwrap_or_default();
    let number = |count: usize| Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi);
    let ports = spec.ports.unwrap_or_default();
    let with_node_port = ports.iter().filter(|port| port.node_port.unwrap_or(0) != 0).count();
    let (node_ports, balancers) = match spec.type_.as_deref() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec.allocate_load_balancer_node_ports == Some(false) => (with_node_port, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    Amounts::from([
        ("count/services".to_owned(), one()),
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(balancers)),
    ])
}

pub(super) fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let spec = claim.spec.clone().unwrap_or_default();
    let class = spec.storage_class_name.filter(|class| !class.is_empty());
    let requested =
        read(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())).remove("storage");
    let mut used = Amounts::from([
        ("count/persistentvolumeclaims".to_owned(), one()),
        ("persistentvolumeclaims".to_owned(), one()),
    ]);
    if let Some(class) = &class {
        used.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
    if let Some(requested) = requested {
        if let Some(class) = &class {
            used.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), requested.clone());
        }
        used.insert("requests.storage".to_owned(), requested);
    }
    used
}

pub(super) fn has_scopes(quota: &ResourceQuota) -> bool {
    !scopes(quota).is_empty()
}

fn scopes(quota: &ResourceQuota) -> Vec<ScopedResourceSelectorRequirement> {
    let Some(spec) = &quota.spec else { return Vec::new() };
    let plain = spec.scopes.iter().flatten().map(|name| ScopedResourceSelectorRequirement {
        scope_name: name.clone(),
        operator: "Exists".to_owned(),
        values: None,
    });
    let selected = spec.scope_selector.as_ref().and_then(|selector| selector.match_expressions.clone());
    plain.chain(selected.into_iter().flatten()).collect()
}

/// Whether a pod is within all scopes of a quota.
pub(super) fn is_about(quota: &ResourceQuota, pod: &Pod) -> bool {
    scopes(quota).iter().all(|scope| is_in(scope, pod))
}

fn is_in(scope: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let spec = pod.spec.clone().unwrap_or_default();
    let terminating = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
    match scope.scope_name.as_str() {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = spec.priority_class_name.filter(|class| !class.is_empty());
            let listed = || {
                class.as_ref().is_some_and(|class| scope.values.iter().flatten().any(|value| value == class))
            };
            match scope.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                _ => false,
            }
        }
        "CrossNamespacePodAffinity" => asks_across_namespaces(&spec),
        _ => false,
    }
}

fn is_best_effort(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let mut containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let asks = |container: &Container| {
        let resources = container.resources.as_ref();
        let any = |amounts: Option<&BTreeMap<String, Written>>| {
            read(amounts)
                .iter()
                .any(|(name, amount)| ["cpu", "memory"].contains(&name.as_str()) && !amount.is_zero())
        };
        resources.is_some_and(|resources| any(resources.requests.as_ref()) || any(resources.limits.as_ref()))
    };
    !containers.any(asks)
}

fn asks_across_namespaces(spec: &k8s_openapi::api::core::v1::PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let near = affinity.pod_affinity.as_ref().map(|near| {
        (
            &near.required_during_scheduling_ignored_during_execution,
            &near.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|far| {
        (
            &far.required_during_scheduling_ignored_during_execution,
            &far.preferred_during_scheduling_ignored_during_execution,
        )
    });
    near.into_iter().chain(far).any(|(required, preferred)| {
        let preferred = preferred.iter().flatten().map(|weighted| &weighted.pod_affinity_term);
        required.iter().flatten().chain(preferred).any(|term| {
            term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
                || term.namespace_selector.is_some()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;
    use k8s_openapi::api::core::v1::ResourceRequirements;

    fn container(cpu: &str, sidecar: bool) -> Container {
        let requests = Some([("cpu".to_owned(), Written(cpu.to_owned()))].into());
        Container {
            resources: Some(ResourceRequirements { requests, ..ResourceRequirements::default() }),
            restart_policy: sidecar.then(|| "Always".to_owned()),
            ..Container::default()
        }
    }

    #[test]
    fn a_pod_uses_its_peak() {
        let mut heavy = pod("a", "n", "Running", None);
        let spec = heavy.spec.as_mut().unwrap();
        spec.containers = vec![container("100m", false), container("200m", false)];
        spec.init_containers = Some(vec![container("50m", true), container("1", false)]);
        let now = Timestamp::from_second(1).unwrap();
        let used = of_pod(&heavy, now);
        assert_eq!(used["requests.cpu"].to_string(), "1050m");
        assert_eq!((used["cpu"].to_string(), used["pods"].to_string()), ("1050m".to_owned(), "1".to_owned()));
        heavy.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        assert_eq!(of_pod(&heavy, now).keys().collect::<Vec<_>>(), ["count/pods"]);
    }

    #[test]
    fn scopes_choose_pods() {
        let quota = |scope: &str| ResourceQuota {
            spec: Some(k8s_openapi::api::core::v1::ResourceQuotaSpec {
                scopes: Some(vec![scope.to_owned()]),
                ..Default::default()
            }),
            ..ResourceQuota::default()
        };
        let mut plain = pod("a", "n", "Running", None);
        assert!(is_about(&quota("BestEffort"), &plain) && is_about(&quota("NotTerminating"), &plain));
        plain.spec.as_mut().unwrap().containers = vec![container("1", false)];
        plain.spec.as_mut().unwrap().active_deadline_seconds = Some(5);
        assert!(is_about(&quota("NotBestEffort"), &plain) && is_about(&quota("Terminating"), &plain));
    }
}
