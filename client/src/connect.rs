//! Getting a [`Client`], and giving every component its own identity.

use std::sync::Arc;

use http::HeaderValue;
use hyper_util::rt::TokioExecutor;
use knarr_api::version;
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use tower::{BoxError, Service, ServiceBuilder};

/// Who a request is made as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub user: String,
    pub groups: Vec<String>,
    /// What upstream's program is called that does the same: the manager of the fields that are written.
    pub program: &'static str,
}

impl Identity {
    /// `program` is upstream's that does the same, such as `kube-scheduler`: the fields it writes are its own.
    pub fn user(program: &'static str, name: impl Into<String>, groups: &[&str]) -> Self {
        Self { program, user: name.into(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }

    /// A service account, with the groups its tokens carry.
    pub fn service_account(program: &'static str, namespace: &str, name: &str) -> Self {
        Self {
            program,
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }
}

/// What a program calls itself, as client-go's do: `kubelet/v1.37.0 (linux/amd64)`.
///
/// # Panics
/// If the name has characters that no header may have.
pub fn user_agent(program: &'static str) -> HeaderValue {
    HeaderValue::try_from(version::user_agent(program)).expect("programs have plain names")
}

/// Makes clients for the identities of one process's components.
///
/// In the all-in-one process the server trusts the identity it is handed with the request; between machines the
/// factory holds one certificate and every component shares it, as upstream does by default.
pub trait ClientFactory: Send + Sync + 'static {
    fn client(&self, identity: &Identity) -> Client;
}

impl<F: Fn(&Identity) -> Client + Send + Sync + 'static> ClientFactory for F {
    fn client(&self, identity: &Identity) -> Client {
        self(identity)
    }
}

/// A factory whose components all share one client.
#[derive(Clone)]
pub struct SharedClient(pub Client);

impl ClientFactory for SharedClient {
    fn client(&self, _identity: &Identity) -> Client {
        self.0.clone()
    }
}

pub type SharedClientFactory = Arc<dyn ClientFactory>;

/// A client straight onto a service in this process: all of the server's filters, no socket.
///
/// Must be called inside a tokio runtime.
pub fn in_process<S, B>(service: S) -> Client
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Client::new(service, "default")
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the connection to {server}: {source}")]
pub struct ConnectError {
    pub server: String,
    pub source: kube::Error,
}

/// A client over HTTPS from settings already in hand (server, CA, client certificate or token).
pub fn from_config(mut config: Config) -> Result<Client, ConnectError> {
    // Watches end by the server's timeout and are guarded by the informer; an idle one is not broken.
    config.read_timeout = None;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|source| ConnectError { server, source })
}

/// A client over HTTPS that asks `identity` for its certificate at every new connection, so that the certificate can
/// be replaced while the client is in use.
pub fn with_certificate(
    config: &Config,
    identity: Arc<dyn ResolvesClientCert>,
) -> Result<Client, ConnectError> {
    if CryptoProvider::get_default().is_none() {
        // It may be there by now, and then it is this one.
        let _raced = aws_lc_rs::default_provider().install_default();
    }
    let failed = |source| ConnectError { server: config.cluster_url.to_string(), source };
    let mut tls = config.rustls_client_config().map_err(failed)?;
    tls.client_auth_cert_resolver = identity;
    let connector =
        hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().build();
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let headers = config.extra_headers_layer().map_err(failed)?;
    let service = ServiceBuilder::new().layer(config.base_uri_layer()).layer(headers).service(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
