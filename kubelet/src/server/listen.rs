//! The listening socket, TLS, and one task per connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::auth::{Authenticator, Peer};
use super::{State, router};
use crate::agent::Agent;
use crate::config::ServerTls;
use crate::pod::workers::Workers;

/// A client that does not finish its handshake is not waited for.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After an error of the socket itself (too many files).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("TLS settings of the node's server: {0}")]
    Tls(String),
}

/// A server whose port is taken and that does not answer yet.
pub struct Bound {
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
}

fn tls_config(tls: &ServerTls) -> Result<rustls::ServerConfig, ServerError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?;
    let builder = if tls.client_ca.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in &tls.client_ca {
            roots.add(certificate.clone()).map_err(|e| failed(&e))?;
        }
        // Bearers of tokens have no certificate.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|e| failed(&e))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(Arc::clone(&tls.certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes the port; `None` for an agent without a server.
pub async fn bind(agent: &Arc<Agent>, workers: &Workers) -> Result<Option<Bound>, ServerError> {
    let Some(config) = &agent.config.server else { return Ok(None) };
    let tls = TlsAcceptor::from(Arc::new(tls_config(&config.tls)?));
    let listener = TcpListener::bind(config.address)
        .await
        .map_err(|source| ServerError::Listen { address: config.address, source })?;
    let state = State { agent: Arc::clone(agent), workers: workers.clone() };
    let router = router::build(state, Arc::new(Authenticator::new(agent, config)));
    Ok(Some(Bound { listener, tls, router }))
}

impl Bound {
    /// The address taken, with the port the kernel chose where the configuration left it open.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `stop`; open connections end with it.
    pub async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (tls, router, stop) = (self.tls.clone(), self.router.clone(), stop.clone());
                    tasks.spawn(async move {
                        stop.run_until_cancelled(connection(stream, tls, router)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the node's server");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, router: Router) {
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let peer = Peer::of(stream.get_ref().1.peer_certificates());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let served = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection to the node's server ended");
    }
}
