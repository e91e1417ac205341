//! Calling a hook over HTTPS.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio_rustls::TlsConnector;

use super::configuration::{Client, Hook, Service};
use crate::objects::{Objects, Resource};
use crate::pki;
use crate::stream::Dialer;

/// Answers are objects and their patches; a longer one is a hook gone wrong.
const MAX_ANSWER: usize = 8 << 20;
const DEFAULT_PORT: u16 = 443;

/// Why a hook gave no answer.
pub struct Failed(pub String);

/// Calls hooks, services by one of their endpoints.
#[derive(Clone)]
pub struct Caller {
    objects: Arc<dyn Objects>,
    dialer: Arc<dyn Dialer>,
}

/// Where a hook is and what it is called.
struct Place {
    /// The name its certificate must have.
    name: String,
    /// As messages show it.
    url: String,
    host: String,
    port: u16,
    path: String,
}

impl Caller {
    pub fn new(objects: Arc<dyn Objects>, dialer: Arc<dyn Dialer>) -> Self {
        Self { objects, dialer }
    }

    /// Asks within the hook's own time.
    pub async fn call(&self, hook: &Hook, review: &Value) -> Result<Value, Failed> {
        let answered = self.call_client(&hook.client_config, hook.timeout(), review).await;
        answered.map_err(|Failed(why)| Failed(format!("failed to call webhook: {why}")))
    }

    /// Asks whoever is at an address.
    pub async fn call_client(
        &self,
        client: &Client,
        timeout: Duration,
        review: &Value,
    ) -> Result<Value, Failed> {
        let place = self.place(client, timeout.as_secs()).map_err(Failed)?;
        let said = |why: String| Failed(format!("Post {:?}: {why}", place.url));
        match tokio::time::timeout(timeout, self.post(client, &place, review)).await {
            Ok(answered) => answered.map_err(said),
            Err(_) => Err(said("context deadline exceeded".into())),
        }
    }

    fn place(&self, client: &Client, seconds: u64) -> Result<Place, String> {
        let query = format!("timeout={seconds}s");
        if let Some(url) = &client.url {
            let uri: Uri =
                url.parse().map_err(|error| format!("the webhook's URL does not parse: {error}"))?;
            let host = uri.host().ok_or("the webhook's URL has no host")?.trim_matches(['[', ']']).to_owned();
            let path = format!("{}?{query}", uri.path());
            let shown = format!("{}?{query}", url.trim_end_matches('?'));
            let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
            return Ok(Place { name: host.clone(), url: shown, host, port, path });
        }
        let service = client.service.as_ref().ok_or("the webhook has neither URL nor service")?;
        let port = service.port.unwrap_or(DEFAULT_PORT);
        let name = format!("{}.{}.svc", service.name, service.namespace);
        let path = service.path.as_deref().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{path}?{query}");
        let (host, target) = self.endpoint(service, port)?;
        Ok(Place { url: format!("https://{name}:{port}{path}"), name, host, port: target, path })
    }

    /// One ready endpoint of a service's port.
    fn endpoint(&self, service: &Service, port: u16) -> Result<(String, u16), String> {
        let Service { namespace, name, .. } = service;
        let read = |plural| -> Result<Value, String> {
            let stored = self.objects.get(Resource::core(plural), namespace, name);
            let stored = stored.ok_or_else(|| format!("service {name:?} not found"))?;
            serde_json::from_slice(&stored.json).map_err(|error| error.to_string())
        };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let wanted =
            list(&read("services")?["spec"]["ports"]).into_iter().find(|known| known["port"] == port);
        let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
        let port_name = wanted["name"].as_str().unwrap_or_default().to_owned();
        for subset in list(&read("endpoints")?["subsets"]) {
            let ports = list(&subset["ports"]);
            let target = ports.iter().find(|known| known["name"].as_str().unwrap_or_default() == port_name);
            let target =
                target.and_then(|known| known["port"].as_u64()).and_then(|port| u16::try_from(port).ok());
            let addresses = list(&subset["addresses"]);
            let address = addresses.first().and_then(|address| address["ip"].as_str());
            if let (Some(port), Some(ip)) = (target, address) {
                return Ok((ip.to_owned(), port));
            }
        }
        Err(format!("no endpoints available for service {name:?}"))
    }

    async fn post(&self, client: &Client, place: &Place, review: &Value) -> Result<Value, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stream = self
            .dialer
            .dial(&place.host, place.port)
            .await
            .map_err(|error| format!("dial tcp {}:{}: {error}", place.host, place.port))?;
        let name = ServerName::try_from(place.name.clone()).map_err(|error| text(&error))?;
        let connector = TlsConnector::from(Arc::new(trust(client)?));
        let stream = connector.connect(name, stream).await.map_err(|error| format!("tls: {error}"))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        let request = Request::post(&place.path)
            .header(HOST, format!("{}:{}", place.name, place.port))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, "kube-apiserver-admission")
            .body(Body::from(review.to_string()))
            .map_err(|error| text(&error))?;
        // The connection makes progress only while it is polled beside the request.
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
            let code = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER);
            let bytes = body.collect().await.map_err(|error| text(&error))?.to_bytes();
            if !code.is_success() {
                return Err(format!(
                    "an error on the server ({code}) has prevented the request from succeeding"
                ));
            }
            serde_json::from_slice(&bytes).map_err(|error| format!("couldn't decode the answer: {error}"))
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            answered = &mut exchange => answered,
            ended = &mut connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(text(&error)),
            },
        }
    }
}

/// Trusts what the configuration's bundle says, and nobody without one.
fn trust(client: &Client) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if let Some(bundle) = &client.ca_bundle {
        let pem = STANDARD.decode(bundle).map_err(|error| format!("caBundle does not decode: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| format!("caBundle does not parse: {error}"))?;
            roots.add(certificate).map_err(|error| format!("caBundle is not usable: {error}"))?;
        }
    }
    let config = ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
