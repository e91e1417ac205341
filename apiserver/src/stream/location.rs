//! Finding what a proxy request means: `[scheme:]name[:port]` of a pod, service or node.

use std::net::IpAddr;

use knarr_api::status::Status;
use serde::Deserialize;

use super::backend::Location;
use super::pod::{Pod, nullable};
use super::{Proxied, Streams};
use crate::objects::Resource;

/// The parts of a proxy request's name.
#[derive(Debug, PartialEq, Eq)]
struct Name<'a> {
    https: bool,
    name: &'a str,
    /// A number or the name of a port; empty for the default.
    port: &'a str,
}

fn split(id: &str) -> Option<Name<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (!name.is_empty() && matches!(scheme, "" | "http" | "https")).then_some(Name {
        https: scheme == "https",
        name,
        port,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Service {
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ServiceSpec {
    #[serde(deserialize_with = "nullable")]
    ports: Vec<NamedPort>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NamedPort {
    name: String,
    port: u16,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoints {
    #[serde(deserialize_with = "nullable")]
    subsets: Vec<Subset>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subset {
    #[serde(deserialize_with = "nullable")]
    addresses: Vec<EndpointAddress>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<NamedPort>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct EndpointAddress {
    ip: String,
    target_ref: Option<TargetRef>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TargetRef {
    namespace: String,
    name: String,
}

impl Streams {
    /// Where requests for `id` go.
    ///
    /// Errors: the name does not parse or its address is not one to send requests to, 400; there is no such object,
    /// 404; the service has no endpoint, 503.
    pub(super) async fn resolve(
        &self,
        proxied: Proxied,
        namespace: &str,
        id: &str,
    ) -> Result<Location, Status> {
        let what = match proxied {
            Proxied::Pod => "pod",
            Proxied::Service => "service",
            Proxied::Node => "node",
        };
        let name = split(id).ok_or_else(|| Status::bad_request(format!("invalid {what} request {id:?}")))?;
        match proxied {
            Proxied::Pod => self.resolve_pod(namespace, name).await,
            Proxied::Service => self.resolve_service(namespace, name, id).await,
            Proxied::Node => self.resolve_node(name).await,
        }
    }

    fn location(&self, https: bool, host: String, port: u16) -> Location {
        Location { host, port, tls: https.then(|| self.kubelets.pod_tls()), name: None }
    }

    async fn resolve_pod(&self, namespace: &str, id: Name<'_>) -> Result<Location, Status> {
        let pod = Pod::read(&*self.objects, namespace, id.name).await?;
        let first = || pod.spec.containers.iter().flat_map(|c| &c.ports).map(|p| p.container_port).next();
        let default = if id.https { 443 } else { 80 };
        let port = match id.port {
            "" => first().unwrap_or(default),
            port => number(port)?,
        };
        let ip = pod.status.primary_ip();
        if !ip.parse().is_ok_and(is_global_unicast) {
            return Err(Status::bad_request("address not allowed"));
        }
        Ok(self.location(id.https, ip.to_owned(), port))
    }

    async fn resolve_service(&self, namespace: &str, id: Name<'_>, whole: &str) -> Result<Location, Status> {
        // A number means the service's port, whose name endpoints go by.
        let port_name = match id.port.parse::<i64>() {
            Ok(wanted) => {
                let service: Service = self.read("services", namespace, id.name).await?;
                let port = service.spec.ports.into_iter().find(|port| i64::from(port.port) == wanted);
                port.map(|port| port.name).ok_or_else(|| {
                    Status::service_unavailable(format!(
                        "no service port {wanted} found for service {:?}",
                        id.name
                    ))
                })?
            }
            Err(_) => id.port.to_owned(),
        };
        let endpoints: Endpoints = self.read("endpoints", namespace, id.name).await?;
        let none =
            |name: &str| Status::service_unavailable(format!("no endpoints available for service {name:?}"));
        if endpoints.subsets.is_empty() {
            return Err(none(id.name));
        }
        for subset in rotated(&endpoints.subsets, self.random.next_u64()) {
            let Some(port) = subset.ports.iter().find(|port| port.name == port_name) else { continue };
            for address in rotated(&subset.addresses, self.random.next_u64()) {
                if self.is_pod(namespace, address).await {
                    return Ok(self.location(id.https, address.ip.clone(), port.port));
                }
            }
        }
        Err(none(whole))
    }

    /// Only addresses that are pods are asked: anything else could be a way around the network's rules.
    async fn is_pod(&self, namespace: &str, address: &EndpointAddress) -> bool {
        let Some(target) = address.target_ref.as_ref().filter(|target| target.namespace == namespace) else {
            return false;
        };
        let pod = Pod::read(&*self.objects, namespace, &target.name).await;
        pod.is_ok_and(|pod| pod.status.pod_ips.iter().any(|ip| ip.ip == address.ip))
    }

    async fn resolve_node(&self, id: Name<'_>) -> Result<Location, Status> {
        let kubelet = self.kubelets.locate(&*self.objects, id.name, true).await?;
        if kubelet.host.parse().is_ok_and(|ip: IpAddr| !is_proxyable(ip)) {
            return Err(Status::bad_request("address not allowed"));
        }
        match id.port {
            "" => Ok(kubelet),
            port if port == kubelet.port.to_string() => Ok(kubelet),
            port => Ok(self.location(id.https, kubelet.host, number(port)?)),
        }
    }

    async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<T, Status> {
        let resource = Resource::core(plural);
        let stored = self.objects.get_live(resource, namespace, name).await.map_err(Status::internal)?;
        let stored = stored.ok_or_else(|| Status::not_found("", plural, name))?;
        serde_json::from_slice(&stored.json).map_err(Status::internal)
    }
}

fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))
}

/// All items, beginning at a random one.
fn rotated<T>(items: &[T], random: u64) -> impl Iterator<Item = &T> {
    let start = (random % items.len().max(1) as u64) as usize;
    items[start..].iter().chain(&items[..start])
}

fn is_global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast && is_proxyable(ip)
}

/// Not an address that means this machine or its link.
fn is_proxyable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_into_scheme_name_and_port() {
        let name = |https, name, port| Some(Name { https, name, port });
        assert_eq!(split("web"), name(false, "web", ""));
        assert_eq!(split("web:http"), name(false, "web", "http"));
        assert_eq!(split("https:web:"), name(true, "web", ""));
        for bad in ["", ":80", "ftp:web:1", "a:b:c:d"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_machine_is_no_pod() {
        for bad in ["127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "::1", "fe80::1"] {
            assert!(!is_global_unicast(bad.parse().unwrap()), "{bad}");
        }
        assert!(is_global_unicast("10.1.2.3".parse().unwrap()));
    }
}
