//! One request to a kubelet, pod or service.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use super::dial::{Dialer, Io};

/// Connecting and the TLS handshake together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// Where a request goes.
#[derive(Clone)]
pub(crate) struct Location {
    /// A name or an address without brackets.
    pub host: String,
    pub port: u16,
    /// `Some`: over TLS with this configuration.
    pub tls: Option<Arc<ClientConfig>>,
    /// The name that the certificate must have, where that is not the host.
    pub name: Option<String>,
}

impl Location {
    /// As in a URL.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("error dialing backend: dial tcp {authority}: {cause}")]
    Dial { authority: String, cause: std::io::Error },
    #[error("error dialing backend: dial tcp {authority}: i/o timeout")]
    Timeout { authority: String },
    #[error("error dialing backend: {host:?} is no host name")]
    Host { host: String },
    #[error("error dialing backend: remote error: {cause}")]
    Tls { cause: std::io::Error },
    #[error("error sending request: {0}")]
    Send(hyper::Error),
}

/// Sends requests, each over a connection of its own.
#[derive(Clone)]
pub(crate) struct Backend {
    dialer: Arc<dyn Dialer>,
    connections: TaskTracker,
}

impl Backend {
    pub fn new(dialer: Arc<dyn Dialer>, connections: TaskTracker) -> Self {
        Self { dialer, connections }
    }

    /// Sends the request, whose URI is a path, and returns the answer as it begins. The connection lives as long as
    /// the answer's body, or the upgraded stream, is held.
    pub async fn send(&self, to: &Location, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let connected = tokio::time::timeout(CONNECT_PATIENCE, self.connect(to)).await;
        let stream = connected.map_err(|_| Error::Timeout { authority: to.authority() })??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Send)?;
        // The connection's task ends when both the answer and the sender are dropped; its errors reach the reader
        // of the body.
        self.connections.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "backend connection ended");
            }
        });
        sender.send_request(request).await.map_err(Error::Send)
    }

    async fn connect(&self, to: &Location) -> Result<Box<dyn Io>, Error> {
        let stream = self
            .dialer
            .dial(&to.host, to.port)
            .await
            .map_err(|cause| Error::Dial { authority: to.authority(), cause })?;
        let Some(config) = &to.tls else { return Ok(stream) };
        let name = to.name.as_ref().unwrap_or(&to.host);
        let name = ServerName::try_from(name.clone()).map_err(|_| Error::Host { host: name.clone() })?;
        let connector = TlsConnector::from(config.clone());
        let stream = connector.connect(name, stream).await.map_err(|cause| Error::Tls { cause })?;
        Ok(Box::new(stream))
    }
}
