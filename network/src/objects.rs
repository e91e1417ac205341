//! The few fields of API objects that the network reads. Watched once per
//! process and shared by the proxy, DNS and policy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use knarr_client::{Selection, cached_by_metadata};
use serde::{Deserialize, Deserializer};

use crate::pod::Protocol;

/// The label that ties a slice to its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Set on a Service that another proxy serves.
pub const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Set on Services without a ClusterIP, and on their slices.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// Lists and maps that Go writes as `null` when empty.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

impl knarr_api::selector::Labels for Meta {
    fn get(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(|value| &**value)
    }
}

cached_by_metadata!(Service);
cached_by_metadata!(EndpointSlice);
cached_by_metadata!(Namespace);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: Meta,
}

impl Namespace {
    pub fn selection() -> Selection {
        Selection::of("", "v1", "namespaces")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    pub metadata: Meta,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
}

impl Service {
    pub fn selection() -> Selection {
        Selection::of("", "v1", "services")
    }

    /// Its ClusterIPs; none when it is headless or an ExternalName.
    pub fn cluster_ips(&self) -> Vec<IpAddr> {
        let listed = self.spec.cluster_ips.iter().map(|ip| &**ip);
        let all =
            if self.spec.cluster_ips.is_empty() { vec![&*self.spec.cluster_ip] } else { listed.collect() };
        all.into_iter().filter_map(|ip| ip.parse().ok()).collect()
    }

    pub fn is_external_name(&self) -> bool {
        &*self.spec.kind == "ExternalName"
    }

    pub fn is_headless(&self) -> bool {
        &*self.spec.cluster_ip == "None"
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub kind: Box<str>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Box<str>,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    pub cluster_ips: Vec<Box<str>>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    pub external_ips: Vec<Box<str>>,
    pub external_name: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<ServicePort>,
    pub session_affinity: Box<str>,
    pub session_affinity_config: SessionAffinityConfig,
    pub external_traffic_policy: Box<str>,
    pub internal_traffic_policy: Box<str>,
    pub health_check_node_port: u16,
    #[serde(deserialize_with = "nullable")]
    pub load_balancer_source_ranges: Vec<Box<str>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP", deserialize_with = "nullable")]
    pub client_ip: ClientIpConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    #[serde(default)]
    pub name: Box<str>,
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    pub port: u16,
    #[serde(default)]
    pub node_port: u16,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    pub load_balancer: LoadBalancerStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    #[serde(deserialize_with = "nullable")]
    pub ingress: Vec<LoadBalancerIngress>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    pub ip: Box<str>,
    pub ip_mode: Box<str>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub metadata: Meta,
    pub address_type: Box<str>,
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<Endpoint>,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<EndpointPort>,
}

impl EndpointSlice {
    /// The index by `namespace/service`.
    pub const BY_SERVICE: &'static str = "service";

    pub fn selection() -> Selection {
        Selection::of("discovery.k8s.io", "v1", "endpointslices")
    }

    /// The name of the Service it belongs to.
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get(SERVICE_NAME).map(|name| &**name)
    }

    /// The values of [`Self::BY_SERVICE`].
    pub fn service_key(slice: &EndpointSlice) -> Vec<String> {
        slice.service().map(|name| format!("{}/{name}", slice.metadata.namespace)).into_iter().collect()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    pub conditions: EndpointConditions,
    pub hostname: Option<Box<str>>,
    pub node_name: Option<Box<str>>,
    #[serde(deserialize_with = "nullable")]
    pub hints: Hints,
}

/// Whose traffic an endpoint is meant for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    #[serde(deserialize_with = "nullable")]
    pub for_zones: Vec<Named>,
    #[serde(deserialize_with = "nullable")]
    pub for_nodes: Vec<Named>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: Box<str>,
}

impl Endpoint {
    /// The first address: the others are the same endpoint by other ways and
    /// upstream ignores them.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

impl EndpointConditions {
    pub fn is_ready(self) -> bool {
        self.ready.unwrap_or(true)
    }

    pub fn is_serving(self) -> bool {
        self.serving.unwrap_or_else(|| self.is_ready())
    }

    pub fn is_terminating(self) -> bool {
        self.terminating.unwrap_or(false)
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    pub name: Option<Box<str>>,
    pub protocol: Option<Protocol>,
    pub port: Option<u16>,
}

impl EndpointPort {
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol.unwrap_or(Protocol::Tcp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_lists_as_go_writes_them_are_empty() {
        let slice: EndpointSlice = serde_json::from_str(
            r#"{"metadata":{"name":"a","labels":null},"addressType":"IPv4","endpoints":null,"ports":null}"#,
        )
        .expect("decodes");
        assert!(slice.endpoints.is_empty() && slice.ports.is_empty());
    }

    #[test]
    fn conditions_default_as_the_api_says() {
        let none = EndpointConditions::default();
        assert!(none.is_ready() && none.is_serving() && !none.is_terminating());
        let not_ready = EndpointConditions { ready: Some(false), ..none };
        assert!(!not_ready.is_ready() && !not_ready.is_serving());
    }

    #[test]
    fn a_headless_service_has_no_cluster_ip() {
        let service: Service = serde_json::from_str(
            r#"{"metadata":{"name":"a"},"spec":{"clusterIP":"None","clusterIPs":["None"]}}"#,
        )
        .expect("decodes");
        assert!(service.is_headless() && service.cluster_ips().is_empty());
    }
}
