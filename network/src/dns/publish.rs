//! The `kube-dns` Service, as users expect to find it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use knarr_client::{Api, Client};
use kube::api::{ObjectMeta, PostParams};

use crate::config::Config;
use crate::kernel::nft::Ip;
use crate::objects::SERVICE_NAME;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const MANAGER: &str = "knarr";

/// Creates the Service and its slices; what exists already is left as it is.
/// Once per cluster, when the namespace is there.
///
/// The Service has no selector: no pod is behind it. Its endpoint is its own
/// address, which every node carries and answers itself.
///
/// # Errors
/// The API server's, for the caller to try again.
pub async fn publish(client: &Client, config: &Config) -> Result<(), kube::Error> {
    if config.dns_ips.is_empty() {
        return Ok(());
    }
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    create(&services, &service(config)).await?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    for ip in Ip::BOTH {
        if let Some(slice) = slice(config, ip) {
            create(&slices, &slice).await?;
        }
    }
    Ok(())
}

async fn create<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: kube::Resource + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, object).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

fn labels(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
    Some(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn service(config: &Config) -> Service {
    let port = |name: &str, protocol: &str, port| ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port,
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            labels: labels(&[
                ("k8s-app", NAME),
                ("kubernetes.io/cluster-service", "true"),
                ("kubernetes.io/name", "CoreDNS"),
            ]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: config.dns_ips.first().map(ToString::to_string),
            cluster_ips: Some(config.dns_ips.iter().map(ToString::to_string).collect()),
            ip_family_policy: (config.dns_ips.len() > 1).then(|| "PreferDualStack".to_owned()),
            ports: Some(vec![port("dns", "UDP", 53), port("dns-tcp", "TCP", 53)]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn slice(config: &Config, ip: Ip) -> Option<EndpointSlice> {
    let address = config.dns_ips.iter().find(|address| Ip::of(**address) == ip)?;
    let (suffix, address_type) = match ip {
        Ip::V4 => ("ipv4", "IPv4"),
        Ip::V6 => ("ipv6", "IPv6"),
    };
    let port = |name: &str, protocol: &str| EndpointPort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: Some(53),
        ..EndpointPort::default()
    };
    Some(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{NAME}-{suffix}")),
            namespace: Some(NAMESPACE.to_owned()),
            labels: labels(&[
                (SERVICE_NAME, NAME),
                ("endpointslice.kubernetes.io/managed-by", MANAGER),
                ("k8s-app", NAME),
            ]),
            ..ObjectMeta::default()
        },
        address_type: address_type.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(true),
                serving: Some(true),
                terminating: Some(false),
            }),
            ..Endpoint::default()
        }]),
        ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
    })
}
