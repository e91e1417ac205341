//! One APIService that another server is behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

use super::documents::Documents;
use crate::pki;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    group: String,
    version: String,
    service: ServiceReference,
    #[serde(default)]
    ca_bundle: Option<String>,
    #[serde(default, rename = "insecureSkipTLSVerify")]
    insecure: bool,
    group_priority_minimum: i32,
    version_priority: i32,
}

#[derive(Deserialize)]
struct ServiceReference {
    namespace: String,
    name: String,
    #[serde(default = "https")]
    port: u16,
}

fn https() -> u16 {
    443
}

/// Who serves a group and version, and what is known of it.
pub struct Remote {
    /// The APIService's: `v1beta1.metrics.k8s.io`.
    pub name: String,
    pub group: String,
    pub version: String,
    pub group_priority: i32,
    pub version_priority: i32,
    /// The service's namespace, name and port.
    pub namespace: String,
    pub service: String,
    pub port: u16,
    /// How to speak with it, or why that cannot be.
    pub(super) tls: Result<Arc<ClientConfig>, String>,
    pub(super) spec: Value,
    /// Asks for a check now.
    pub(super) wake: Notify,
    available: AtomicBool,
    documents: ArcSwapOption<Documents>,
}

impl Remote {
    /// Reads an APIService; `None` for those that this server serves itself.
    pub(super) fn read(object: &Value, client: &Arc<dyn ResolvesClientCert>) -> Option<Self> {
        let spec: Spec = serde_json::from_value(object["spec"].clone()).ok()?;
        let available = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Available" && condition["status"] == "True");
        Some(Self {
            name: object["metadata"]["name"].as_str()?.to_owned(),
            tls: trust(&spec, client).map(Arc::new),
            group: spec.group,
            version: spec.version,
            group_priority: spec.group_priority_minimum,
            version_priority: spec.version_priority,
            namespace: spec.service.namespace,
            service: spec.service.name,
            port: spec.service.port,
            spec: object["spec"].clone(),
            wake: Notify::new(),
            available: AtomicBool::new(available),
            documents: ArcSwapOption::empty(),
        })
    }

    /// The name that its certificate must have.
    pub(super) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// Whether requests are handed over.
    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    pub(super) fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::Relaxed);
    }

    /// What it said of itself last.
    pub fn documents(&self) -> Option<Arc<Documents>> {
        self.documents.load_full()
    }

    pub(super) fn set_documents(&self, documents: Documents) {
        self.documents.store(Some(Arc::new(documents)));
    }
}

fn trust(spec: &Spec, client: &Arc<dyn ResolvesClientCert>) -> Result<ClientConfig, String> {
    let authorities = match (&spec.ca_bundle, spec.insecure) {
        (_, true) => None,
        (bundle, false) => {
            let pem = STANDARD
                .decode(bundle.as_deref().unwrap_or_default())
                .map_err(|error| format!("caBundle: {error}"))?;
            let read: Result<Vec<CertificateDer<'static>>, _> =
                CertificateDer::pem_slice_iter(&pem).collect();
            Some(read.map_err(|error| format!("caBundle: {error}"))?)
        }
    };
    let config = pki::client_config(authorities.as_deref()).map_err(|error| error.to_string())?;
    Ok(config.with_client_cert_resolver(client.clone()))
}
