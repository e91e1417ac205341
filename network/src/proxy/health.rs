//! `healthCheckNodePort`: a balancer asks each node over HTTP whether it has
//! endpoints of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use knarr_client::ObjectKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::plan::HealthCheck;
use crate::dialer::Dialer;

/// How long a client may take to ask.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause when the process has no descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The health check servers of one node.
pub struct HealthChecks {
    dialer: Dialer,
    servers: HashMap<ObjectKey, Server>,
}

struct Server {
    port: u16,
    local_endpoints: Arc<AtomicUsize>,
    /// `None` while something else listens on the port.
    stop: Option<DropGuard>,
}

impl HealthChecks {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer, servers: HashMap::new() }
    }

    /// Starts, changes or ends the server of one Service.
    pub fn set(&mut self, service: &ObjectKey, check: Option<HealthCheck>) {
        let Some(check) = check else {
            self.servers.remove(service);
            return;
        };
        if let Some(server) = self.servers.get(service).filter(|server| server.port == check.port) {
            server.local_endpoints.store(check.local_endpoints, Ordering::Relaxed);
            return;
        }
        let local_endpoints = Arc::new(AtomicUsize::new(check.local_endpoints));
        let server = Server { port: check.port, local_endpoints, stop: None };
        self.servers.insert(service.clone(), server);
    }

    /// Opens the ports that are not open yet.
    pub fn reopen(&mut self) {
        for (service, server) in self.servers.iter_mut().filter(|(_, server)| server.stop.is_none()) {
            let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), server.port);
            match self.dialer.listen(at) {
                Ok(listener) => {
                    let stop = CancellationToken::new();
                    let endpoints = Arc::clone(&server.local_endpoints);
                    tokio::spawn(serve(listener, service.clone(), endpoints, stop.clone()));
                    server.stop = Some(stop.drop_guard());
                }
                Err(error) => tracing::warn!(%service, %at, %error, "health check port does not answer"),
            }
        }
    }
}

async fn serve(
    listener: TcpListener,
    service: ObjectKey,
    endpoints: Arc<AtomicUsize>,
    stop: CancellationToken,
) {
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answer = converse(stream, service.clone(), Arc::clone(&endpoints));
                    tokio::spawn(stop.clone().run_until_cancelled_owned(answer));
                }
                Err(error) => {
                    tracing::warn!(%service, %error, "accept on health check port");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accept).await;
}

async fn converse(stream: TcpStream, service: ObjectKey, endpoints: Arc<AtomicUsize>) {
    let handler = service_fn(|_| {
        let response = response(&service, endpoints.load(Ordering::Relaxed));
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler);
    if let Err(error) = connection.await {
        tracing::debug!(%service, %error, "health check connection");
    }
}

/// Upstream's answer, to the byte.
fn response(service: &ObjectKey, local_endpoints: usize) -> Response<Full<Bytes>> {
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": \
         {local_endpoints},\n\t\"serviceProxyHealthy\": true\n}}",
        service.namespace, service.name
    );
    let mut response = Response::new(Full::new(Bytes::from(body)));
    if local_endpoints == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", http::HeaderValue::from(local_endpoints));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_endpoints_is_unavailable() {
        let key = ObjectKey::new("default", "web");
        assert_eq!(response(&key, 0).status(), StatusCode::SERVICE_UNAVAILABLE);
        let healthy = response(&key, 2);
        assert_eq!(healthy.status(), StatusCode::OK);
        assert_eq!(healthy.headers()["x-load-balancing-endpoint-weight"], "2");
    }
}
