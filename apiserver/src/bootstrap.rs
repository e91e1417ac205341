//! What every cluster has from its first second: namespaces, roles, priority classes, flows, the `kubernetes`
//! Service. All of it is written through the API, on every start, and only where something is missing.

mod flow_control;
mod kubernetes_service;
mod objects;
mod rbac;
mod reconcile;

use std::net::IpAddr;

use futures::stream::{self, TryStreamExt};
use knarr_api::status::Status;

pub use kubernetes_service::KubernetesService;
pub use rbac::node_rules;

use self::reconcile::{Item, apply};
use crate::authn::Headers;
use crate::loopback::Loopback;

/// Writes in flight at once, so that they share the store's commits.
const CONCURRENCY: usize = 64;

/// What the bootstrap objects say about this cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where clients in the cluster reach this server.
    pub advertise_address: IpAddr,
    pub secure_port: u16,
    /// The address of the `kubernetes` Service: the first of the service range.
    pub service_ip: IpAddr,
    /// The ranges that Services get their addresses from, one or two.
    pub service_cidrs: Vec<String>,
    /// Who issues client certificates, for aggregated servers.
    pub client_ca_pem: String,
    /// Who issues the front proxy's certificate, and the headers it sends.
    pub front_proxy_ca_pem: String,
    pub front_proxy_headers: Headers,
}

/// An object that every cluster has could not be written.
#[derive(Debug, thiserror::Error)]
#[error("bootstrapping {path}: {cause}")]
pub struct Error {
    pub path: String,
    pub cause: Status,
}

/// Writes what is missing. Returns when everything is there.
pub async fn run(loopback: &Loopback, settings: &Settings) -> Result<(), Error> {
    // Everything else lives in a namespace or may be looked at in one.
    all(loopback, objects::namespaces()).await?;
    let mut items = objects::cluster_wide(settings);
    items.extend(rbac::items());
    items.extend(flow_control::items());
    items.extend(kubernetes_service::items(settings));
    all(loopback, items).await
}

async fn all(loopback: &Loopback, items: Vec<Item>) -> Result<(), Error> {
    stream::iter(items.into_iter().map(Ok))
        .try_for_each_concurrent(CONCURRENCY, async |item: Item| {
            apply(loopback, &item).await.map_err(|cause| Error { path: item.path(), cause })
        })
        .await
}
