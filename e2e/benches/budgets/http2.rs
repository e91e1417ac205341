//! HTTP/2 with nothing on top, so that the figures are the server's and not those of a client's library.

use std::sync::Arc;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::ConfigExt;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where the server is, and how it is spoken to.
pub struct Endpoint {
    tls: TlsConnector,
    host: String,
    port: u16,
}

impl Endpoint {
    pub fn new(config: &kube::Config) -> anyhow::Result<Self> {
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let host = config.cluster_url.host().context("a host")?.to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), host, port })
    }

    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(self.host.clone())?, stream).await?;
        let (requests, connection) =
            handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Whoever waits for an answer hears of it when the connection fails.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        Ok(Connection { requests, authority: format!("{}:{}", self.host, self.port) })
    }
}

/// Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    authority: String,
}

impl Connection {
    pub async fn get(&mut self, path: &str, encoding: &str) -> anyhow::Result<Response<Incoming>> {
        let request = Request::get(format!("https://{}{path}", self.authority))
            .header("accept", "application/json")
            .header("accept-encoding", encoding);
        self.requests.ready().await?;
        let answer = self.requests.send_request(request.body(Empty::new())?).await?;
        anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        Ok(answer)
    }

    /// How many bytes the answer has.
    pub async fn read(&mut self, path: &str, encoding: &str) -> anyhow::Result<usize> {
        let mut body = self.get(path, encoding).await?.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(read)
    }
}
