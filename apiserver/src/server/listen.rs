//! Serving over TLS: HTTP/1.1 and HTTP/2 on one port, upgrades, and an end that loses no request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{ApiServer, Inner};
use crate::authn::Peer;
use crate::filters;
use crate::pki::ServerTls;

/// A handshake or a request's headers that take longer are given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests may take to finish after the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// A wait before accepting again when the process has no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("a connection could not be served: {0}")]
    Connection(#[from] std::io::Error),
}

impl ApiServer {
    /// Serves connections until `shutdown`, then: not ready, no new connections, requests finish, watches end.
    pub async fn serve(&self, listener: TcpListener, tls: ServerTls, shutdown: CancellationToken) {
        let acceptor = TlsAcceptor::from(tls.config);
        let mut connections = JoinSet::new();
        let draining = CancellationToken::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let connection = connection(self.0.clone(), acceptor.clone(), socket, draining.clone());
                        connections.spawn(connection);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
            }
        }
        drop(listener);
        self.stop();
        draining.cancel();
        let finish = async {
            while let Some(ended) = connections.join_next().await {
                report(ended)
            }
        };
        if tokio::time::timeout(DRAIN, finish).await.is_err() {
            tracing::warn!("requests that did not finish in time are cut off");
        }
    }
}

fn report(ended: Result<Result<(), ListenError>, tokio::task::JoinError>) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended"),
        Err(error) => tracing::error!(%error, "a connection's task failed"),
    }
}

async fn connection(
    inner: Arc<Inner>,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    draining: CancellationToken,
) -> Result<(), ListenError> {
    socket.set_nodelay(true)?;
    let address = socket.peer_addr()?;
    let accepted = tokio::time::timeout(PATIENCE, acceptor.accept(socket)).await;
    let stream = accepted.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer::new(address, certificates.iter().map(|c| c.clone().into_owned()).collect());
    let service = service_fn(move |request: Request<Incoming>| {
        let (inner, peer) = (inner.clone(), peer.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            Ok::<_, std::convert::Infallible>(filters::serve(inner, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30));
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = draining.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    ended.map_err(|error| ListenError::Connection(std::io::Error::other(error)))
}
