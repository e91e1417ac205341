//! An issuer's documents, fetched over HTTPS.

mod freshness;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use knarr_api::field::quote;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use super::configuration::Issuer;
use super::keys::Key;
use super::url::Url;
use crate::pki;
use crate::stream::{Backend, Dialer, Location};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// How long one document may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Documents name some keys and places; a longer one is no such document.
const MAX_DOCUMENT: usize = 1 << 20;
/// How much of an answer that is none is shown.
const SHOWN: usize = 512;

/// Where an issuer publishes, and how it is reached.
pub struct Provider {
    issuer: String,
    backend: Backend,
    /// Where its configuration is and whom to believe there, or why that cannot be known.
    place: Result<(Url, Arc<ClientConfig>), String>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

struct Document {
    headers: HeaderMap,
    body: Bytes,
}

/// The certificates of a bundle.
///
/// Errors: it has none, or one that is not well formed, in upstream's words.
pub fn authorities(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let malformed = |_| "x509: malformed certificate".to_owned();
    let read = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    for certificate in &certificates {
        x509_parser::parse_x509_certificate(certificate).map_err(malformed)?;
    }
    match certificates.is_empty() {
        true => Err("data does not contain any valid RSA or ECDSA certificates".to_owned()),
        false => Ok(certificates),
    }
}

/// Whom to believe: the configured authorities, or those of the machine.
fn trust(issuer: &Issuer) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if issuer.certificate_authority.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "reading this machine's certificate authorities");
        }
        roots.add_parsable_certificates(found.certs);
    } else {
        for authority in authorities(&issuer.certificate_authority)? {
            roots.add(authority).map_err(|error| error.to_string())?;
        }
    }
    let config = ClientConfig::builder_with_provider(pki::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

impl Provider {
    pub fn new(issuer: &Issuer, dialer: Arc<dyn Dialer>) -> Self {
        let configuration = match issuer.discovery_url.as_str() {
            "" => format!("{}{WELL_KNOWN}", issuer.url.strip_suffix('/').unwrap_or(&issuer.url)),
            elsewhere => elsewhere.to_owned(),
        };
        let place = Url::parse(&configuration).and_then(|url| Ok((url, Arc::new(trust(issuer)?))));
        Self { issuer: issuer.url.clone(), backend: Backend::new(dialer, TaskTracker::new()), place }
    }

    /// Where the issuer says that its keys are.
    pub async fn discover(&self) -> Result<Url, String> {
        let (configuration, tls) = self.place.as_ref().map_err(Clone::clone)?;
        let document = self.get(configuration, tls).await?;
        let Configuration { issuer, jwks_uri } = serde_json::from_slice(&document.body).map_err(|error| {
            format!("oidc: failed to decode provider discovery object: {}", document.no_json(&error))
        })?;
        if issuer != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {} got {}",
                quote(&self.issuer),
                quote(&issuer)
            ));
        }
        if jwks_uri.is_empty() {
            return Err("provider did not return JWKS URL".to_owned());
        }
        let url = Url::parse(&jwks_uri)?;
        // Whoever can change keys on their way can be anybody.
        match url.scheme.as_str() {
            "https" => Ok(url),
            _ => Err(format!("the JWKS URL {} must be an https URL", quote(&jwks_uri))),
        }
    }

    /// The issuer's keys, and until when they stay as they are.
    pub async fn keys(&self, url: &Url, now: Timestamp) -> Result<(Vec<Key>, Timestamp), String> {
        let (_, tls) = self.place.as_ref().map_err(Clone::clone)?;
        let document = self.get(url, tls).await.map_err(|why| format!("oidc: get keys failed {why}"))?;
        let keys = Key::read_all(&document.body)
            .map_err(|error| format!("oidc: failed to decode keys: {}", document.no_json(&error)))?;
        Ok((keys, freshness::until(&document.headers, now)))
    }

    async fn get(&self, url: &Url, tls: &Arc<ClientConfig>) -> Result<Document, String> {
        let failed = |why: String| format!("Get {}: {why}", quote(&url.to_string()));
        match tokio::time::timeout(PATIENCE, self.exchange(url, tls)).await {
            Ok(Ok((StatusCode::OK, document))) => Ok(document),
            Ok(Ok((code, document))) => Err(format!("{code}: {}", document.beginning())),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    async fn exchange(&self, url: &Url, tls: &Arc<ClientConfig>) -> Result<(StatusCode, Document), String> {
        let to = Location { host: url.host.clone(), port: url.port, tls: Some(tls.clone()), name: None };
        let request = Request::get(&url.target)
            .header(HOST, &url.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "kube-apiserver")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        let (parts, body) =
            self.backend.send(&to, request).await.map_err(|error| error.to_string())?.into_parts();
        let body = Limited::new(body, MAX_DOCUMENT).collect().await.map_err(|error| error.to_string())?;
        Ok((parts.status, Document { headers: parts.headers, body: body.to_bytes() }))
    }
}

impl Document {
    fn no_json(&self, error: &serde_json::Error) -> String {
        let named = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match named.split(';').next().map(str::trim) {
            Some("application/json") => {
                format!("got Content-Type = application/json, but could not unmarshal as JSON: {error}")
            }
            _ => format!("expected Content-Type = application/json, got {}: {error}", quote(named)),
        }
    }

    fn beginning(&self) -> String {
        String::from_utf8_lossy(&self.body[..self.body.len().min(SHOWN)]).into_owned()
    }
}
