//! Where a node's kubelet listens, and how this server proves itself to it.

use std::sync::Arc;

use knarr_api::status::Status;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use super::backend::Location;
use crate::objects::{Objects, Resource};
use crate::pki;

const DEFAULT_PORT: u16 = 10250;
/// `--kubelet-preferred-address-types`, as kubeadm sets it: names of nodes need not resolve.
const PREFERRED: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];

/// Finds kubelets and speaks TLS with them.
#[derive(Clone)]
pub struct Kubelets {
    tls: Arc<ClientConfig>,
    /// For `insecureSkipTLSVerifyBackend`, and for pods and services, whose certificates nobody here knows.
    insecure: Arc<ClientConfig>,
    insecure_anonymous: Arc<ClientConfig>,
    /// Address types, the preferred first.
    preferred: Arc<[String]>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    addresses: Vec<Address>,
    daemon_endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Endpoints {
    kubelet_endpoint: Endpoint,
}

#[derive(Deserialize, Default)]
struct Endpoint {
    #[serde(default, rename = "Port")]
    port: u16,
}

impl Kubelets {
    /// `authorities` are those that issue kubelets' serving certificates; `None` trusts any, as upstream does
    /// without `--kubelet-certificate-authority`.
    pub fn new(
        client: Arc<dyn ResolvesClientCert>,
        authorities: Option<&[CertificateDer<'static>]>,
    ) -> Result<Self, rustls::Error> {
        let preferred: Vec<String> = PREFERRED.map(str::to_owned).into();
        let insecure = Arc::new(pki::client_config(None)?.with_client_cert_resolver(client.clone()));
        let tls = match authorities {
            None => insecure.clone(),
            Some(authorities) => {
                Arc::new(pki::client_config(Some(authorities))?.with_client_cert_resolver(client))
            }
        };
        let insecure_anonymous = Arc::new(pki::client_config(None)?.with_no_client_auth());
        Ok(Self { tls, insecure, insecure_anonymous, preferred: preferred.into() })
    }

    /// Prefers these address types, in this order (`--kubelet-preferred-address-types`).
    pub fn preferring(mut self, types: Vec<String>) -> Self {
        self.preferred = types.into();
        self
    }

    /// Where the node's kubelet listens.
    ///
    /// Errors: there is no such node, 404; it reports no address, 500.
    pub(super) async fn locate(
        &self,
        objects: &dyn Objects,
        node: &str,
        verify: bool,
    ) -> Result<Location, Status> {
        let resource = Resource::core("nodes");
        let stored = objects.get_live(resource, "", node).await.map_err(Status::internal)?;
        let stored = stored.ok_or_else(|| Status::not_found("", "nodes", node))?;
        let found: Node = serde_json::from_slice(&stored.json).map_err(Status::internal)?;
        let addresses = &found.status.addresses;
        let preferred = self.preferred.iter().find_map(|kind| addresses.iter().find(|a| a.kind == *kind));
        let address = preferred.ok_or_else(|| {
            let known: Vec<String> =
                addresses.iter().map(|address| format!("{{{} {}}}", address.kind, address.address)).collect();
            let known = known.join(" ");
            Status::internal(format!("no preferred addresses found; known addresses: [{known}]"))
        })?;
        let port = match found.status.daemon_endpoints.kubelet_endpoint.port {
            0 => DEFAULT_PORT,
            port => port,
        };
        let tls = if verify { &self.tls } else { &self.insecure };
        Ok(Location { host: address.address.clone(), port, tls: Some(tls.clone()), name: None })
    }

    /// TLS with pods and services.
    pub(super) fn pod_tls(&self) -> Arc<ClientConfig> {
        self.insecure_anonymous.clone()
    }
}
