//! Facts about Services that the controllers of their endpoints share. Pure.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use knarr_client::{Cached, Change, ObjectKey, SharedInformer, WorkQueue};

use crate::pods;

pub(crate) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
pub(crate) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The labels of the pods behind a Service; `None` if it has no selector, and then somebody else says what is
/// behind it.
pub(crate) fn selector(service: &Service) -> Option<&std::collections::BTreeMap<String, String>> {
    service.spec.as_ref()?.selector.as_ref().filter(|selector| !selector.is_empty())
}

pub(crate) fn selects(service: &Service, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector(service).is_some_and(|selector| {
        selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

pub(crate) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Whether it has a virtual address.
pub(crate) fn has_ip(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    !ip.is_empty() && ip != "None"
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

pub(crate) fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

pub(crate) fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The number a Service's port has on a pod; `None` if the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut containers = spec.containers.iter().chain(sidecars);
    containers.find_map(|container| {
        let mut declared = container.ports.iter().flatten();
        let found = declared.find(|declared| {
            declared.name.as_ref() == Some(name)
                && declared.protocol.as_deref().unwrap_or("TCP") == protocol(port)
        });
        found.map(|declared| declared.container_port)
    })
}

/// Whether a pod can be behind a Service at all: it has an address, and has not ended for good.
pub(crate) fn is_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    let status = pod.status.as_ref();
    let has_ip = status.is_some_and(|status| {
        status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
            || status.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    !pods::is_finished(pod) && has_ip && (with_terminating || pod.metadata.deletion_timestamp.is_none())
}

/// The name a pod has below its headless Service, if it asks for one.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|hostname| !hostname.is_empty())?;
    let same_namespace = service.metadata.namespace == pod.metadata.namespace;
    (spec.subdomain == service.metadata.name && same_namespace).then(|| hostname.clone())
}

/// All addresses of a pod, the first one first.
pub(crate) fn addresses(pod: &Pod) -> impl Iterator<Item = std::net::IpAddr> {
    let ips = pod.status.as_ref().and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    ips.iter().filter_map(|ip| ip.ip.parse().ok())
}

/// What of a pod can change what is written about it as an endpoint.
fn endpoint_view(pod: &Pod) -> impl PartialEq + '_ {
    let status = pod.status.as_ref();
    let spec = pod.spec.as_ref();
    (
        &pod.metadata.labels,
        pod.metadata.deletion_timestamp.is_some(),
        pods::is_ready(pod),
        pods::is_finished(pod),
        status.and_then(|status| status.pod_ips.as_ref()),
        spec.map(|spec| (&spec.node_name, &spec.hostname, &spec.subdomain)),
    )
}

/// Queues the Services that a pod is or was behind, when something changed that endpoints tell about.
pub(crate) fn follow_pods(
    pods: &SharedInformer<Pod>,
    services: &SharedInformer<Service>,
    queue: &Arc<WorkQueue<ObjectKey>>,
) {
    let (services, queue) = (services.clone(), Arc::clone(queue));
    pods.subscribe(move |change| {
        let (before, after) = match &change {
            Change::Updated { old, new } if endpoint_view(old) == endpoint_view(new) => return,
            Change::Updated { old, new } => (Some(&***old), &***new),
            Change::Added(pod) | Change::Deleted { last: pod, .. } => (None, &***pod),
        };
        for service in services.in_namespace(after.namespace()) {
            if selects(&service, after) || before.is_some_and(|before| selects(&service, before)) {
                queue.add(ObjectKey::of(&*service));
            }
        }
    })
    .forever();
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

    #[test]
    fn named_ports_are_found_by_name_and_protocol() {
        let port = |name: &str, protocol: &str, number| ContainerPort {
            name: Some(name.into()),
            protocol: Some(protocol.into()),
            container_port: number,
            ..ContainerPort::default()
        };
        let pod = Pod {
            spec: Some(PodSpec {
                containers: vec![Container {
                    ports: Some(vec![port("dns", "UDP", 53), port("dns", "TCP", 5353)]),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let named = |name: &str| ServicePort {
            port: 1,
            target_port: Some(IntOrString::String(name.into())),
            ..ServicePort::default()
        };
        assert_eq!(target_port(&pod, &named("dns")), Some(5353));
        assert_eq!(target_port(&pod, &named("web")), None);
        assert_eq!(target_port(&pod, &ServicePort { port: 7, ..ServicePort::default() }), Some(7));
    }
}
