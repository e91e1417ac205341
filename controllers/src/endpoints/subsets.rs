//! The subsets of Endpoints: addresses that have the same ports. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service,
};

use crate::{pods, services};

/// Addresses in one object; more are cut off, and the object says so.
const MOST: usize = 1000;

/// One port in a form that orders: name, number, protocol, application protocol.
type Port = (String, i32, String, Option<String>);

#[derive(Default)]
struct Addresses {
    ready: BTreeMap<(String, String), EndpointAddress>,
    not_ready: BTreeMap<(String, String), EndpointAddress>,
}

/// The subsets of a Service whose pods are given, and whether addresses had to be left out.
pub(super) fn build(service: &Service, selected: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let mut by_ports = BTreeMap::<Vec<Port>, Addresses>::new();
    for pod in selected {
        let Some(address) = address(service, pod) else { continue };
        let ports = ports(service, pod);
        if ports.is_empty() && !services::ports(service).is_empty() {
            continue;
        }
        let key = (address.ip.clone(), pod.metadata.uid.clone().unwrap_or_default());
        let addresses = by_ports.entry(ports).or_default();
        if services::publishes_not_ready(service) || pods::is_ready(pod) {
            addresses.ready.insert(key, address);
        } else {
            addresses.not_ready.insert(key, address);
        }
    }
    let truncated = truncate(&mut by_ports);
    let subsets = by_ports.into_iter().map(|(ports, addresses)| EndpointSubset {
        addresses: list(addresses.ready.into_values()),
        not_ready_addresses: list(addresses.not_ready.into_values()),
        ports: list(ports.into_iter().map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: Some(name).filter(|name| !name.is_empty()),
            port,
            protocol: Some(protocol),
            app_protocol,
        })),
    });
    (subsets.collect(), truncated)
}

fn list<T>(items: impl Iterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<T> = items.collect();
    (!items.is_empty()).then_some(items)
}

fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = services::ports(service)
        .iter()
        .filter_map(|port| {
            let number = services::target_port(pod, port)?;
            let name = port.name.clone().unwrap_or_default();
            Some((name, number, services::protocol(port).to_owned(), port.app_protocol.clone()))
        })
        .collect();
    ports.sort();
    ports
}

/// The pod's first address of the Service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let spec = service.spec.as_ref();
    let family = spec.and_then(|spec| spec.ip_families.as_ref()?.first());
    let ip = services::addresses(pod).find(|ip| match family {
        Some(family) => ip.is_ipv6() == (family == "IPv6"),
        None => true,
    })?;
    Some(EndpointAddress {
        ip: ip.to_string(),
        node_name: Some(pods::node_name(pod).to_owned()).filter(|name| !name.is_empty()),
        hostname: services::hostname(pod, service),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// Leaves out what is too much, addresses that are not ready first.
fn truncate(by_ports: &mut BTreeMap<Vec<Port>, Addresses>) -> bool {
    let ready: usize = by_ports.values().map(|addresses| addresses.ready.len()).sum();
    let all = ready + by_ports.values().map(|addresses| addresses.not_ready.len()).sum::<usize>();
    if all <= MOST {
        return false;
    }
    let (mut room, mut room_not_ready) = (MOST, MOST.saturating_sub(ready));
    for addresses in by_ports.values_mut() {
        cut(&mut addresses.ready, &mut room);
        cut(&mut addresses.not_ready, &mut room_not_ready);
    }
    by_ports.retain(|_, addresses| !addresses.ready.is_empty() || !addresses.not_ready.is_empty());
    true
}

fn cut(addresses: &mut BTreeMap<(String, String), EndpointAddress>, room: &mut usize) {
    while addresses.len() > *room {
        addresses.pop_last();
    }
    *room -= addresses.len();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;
    use k8s_openapi::api::core::v1::{PodIP, ServicePort, ServiceSpec};

    fn with_ip(mut pod: Pod, ip: String) -> Arc<Pod> {
        pod.status.as_mut().unwrap().pod_ips = Some(vec![PodIP { ip }]);
        Arc::new(pod)
    }

    fn service() -> Service {
        let ports = vec![ServicePort { port: 80, ..ServicePort::default() }];
        Service {
            spec: Some(ServiceSpec { ports: Some(ports), ..ServiceSpec::default() }),
            ..Service::default()
        }
    }

    #[test]
    fn ready_and_not_ready_addresses_share_a_subset() {
        let pods = [
            with_ip(pod("a", "n", "Running", Some(1)), "10.0.0.2".into()),
            with_ip(pod("b", "n", "Running", None), "10.0.0.1".into()),
        ];
        let (subsets, truncated) = build(&service(), &pods);
        assert_eq!((subsets.len(), truncated), (1, false));
        assert_eq!(subsets[0].addresses.as_ref().unwrap()[0].ip, "10.0.0.2");
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap()[0].ip, "10.0.0.1");
        assert!(build(&service(), &[]).0.is_empty());
    }

    #[test]
    fn too_many_addresses_are_cut_ready_ones_last() {
        let pods: Vec<_> = (0..1200)
            .map(|i| {
                let ready = (i < 900).then_some(1);
                with_ip(pod(&format!("p{i}"), "n", "Running", ready), format!("10.0.{}.{}", i / 250, i % 250))
            })
            .collect();
        let (subsets, truncated) = build(&service(), &pods);
        assert!(truncated);
        assert_eq!(subsets[0].addresses.as_ref().unwrap().len(), 900);
        assert_eq!(subsets[0].not_ready_addresses.as_ref().unwrap().len(), 100);
    }
}
