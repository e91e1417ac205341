//! What the slices of a Service should say. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, ObjectReference, Pod, Service},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort},
};

use crate::{pods, services};

/// Address family and ports: endpoints that agree in these can share a slice. The ports are in written form,
/// which orders and compares.
pub(super) type Shape = (&'static str, String);

#[derive(Default)]
pub(super) struct Desired {
    pub(super) shapes: BTreeMap<Shape, Group>,
    /// The families the Service has, with endpoints or without.
    pub(super) families: Vec<&'static str>,
    /// Pods left out because their node is not known.
    pub(super) without_node: Vec<String>,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) ports: Vec<EndpointPort>,
    /// By the uid of the pod.
    pub(super) endpoints: BTreeMap<String, Endpoint>,
}

pub(super) fn shape(family: &'static str, ports: &[EndpointPort]) -> Shape {
    let mut written: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{}|{}|{}|{}",
                port.name.as_deref().unwrap_or_default(),
                port.protocol.as_deref().unwrap_or("TCP"),
                port.port.unwrap_or_default(),
                port.app_protocol.as_deref().unwrap_or_default()
            )
        })
        .collect();
    written.sort();
    (family, written.join(","))
}

pub(super) fn zone(node: &Node) -> Option<&String> {
    node.metadata.labels.as_ref()?.get("topology.kubernetes.io/zone").filter(|zone| !zone.is_empty())
}

/// The endpoints of a Service, grouped by what one slice can hold. `pods` are those it selects.
pub(super) fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
) -> Desired {
    let mut desired = Desired { families: families(service), ..Desired::default() };
    for pod in pods {
        let node = node(pods::node_name(pod));
        if node.is_none() && !services::publishes_not_ready(service) {
            desired.without_node.push(pod.metadata.name.clone().unwrap_or_default());
            continue;
        }
        let ports = endpoint_ports(service, pod);
        for &family in &desired.families {
            let addresses: Vec<_> = services::addresses(pod)
                .filter(|address| address.is_ipv6() == (family == "IPv6"))
                .map(|address| address.to_string())
                .collect();
            let group = desired
                .shapes
                .entry(shape(family, &ports))
                .or_insert_with(|| Group { ports: ports.clone(), ..Group::default() });
            if !addresses.is_empty() {
                let endpoint = endpoint(service, pod, node.as_deref(), addresses);
                group.endpoints.insert(pod.metadata.uid.clone().unwrap_or_default(), endpoint);
            }
        }
    }
    desired
}

fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.as_ref();
    let named: Vec<_> = spec
        .and_then(|spec| spec.ip_families.as_ref())
        .into_iter()
        .flatten()
        .map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" })
        .collect();
    if !named.is_empty() {
        return named;
    }
    match spec.and_then(|spec| spec.cluster_ip.as_deref()) {
        Some(ip) if services::has_ip(service) => vec![if ip.contains(':') { "IPv6" } else { "IPv4" }],
        _ => vec!["IPv4", "IPv6"],
    }
}

fn endpoint_ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = services::ports(service).iter().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(services::target_port(pod, port)?),
            protocol: Some(services::protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    });
    ports.collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, addresses: Vec<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = services::publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        node_name: Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
        zone: node.and_then(zone).cloned(),
        hostname: services::hostname(pod, service),
        ..Endpoint::default()
    }
}
