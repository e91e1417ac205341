//! The command line's end.

use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Failure, Image, ImportRequest, JoinInfo, PullRequest, Socket, Status, TokenRequest};
use crate::cluster::{Cluster, LocalNode, Lock};

/// A connection to the server of one cluster.
#[derive(Debug)]
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to a named cluster; says what to do where it does not run.
    pub async fn connect(cluster: &Cluster) -> anyhow::Result<Self> {
        if Lock::holder(&cluster.data_dir)?.is_none() {
            bail!("cluster {0} does not run: start it with `knarr up --name {0}`", cluster.name);
        }
        Self::open(&cluster.data_dir).await.with_context(|| {
            format!("cluster {} does not answer: see {}", cluster.name, cluster.log_file().display())
        })
    }

    /// Connects to a further node of a cluster on this machine, if it runs.
    pub async fn connect_node(node: &LocalNode) -> anyhow::Result<Option<Self>> {
        if Lock::holder(&node.data_dir)?.is_none() {
            return Ok(None);
        }
        let client = Self::open(&node.data_dir).await;
        client
            .map(Some)
            .with_context(|| format!("node {} does not answer: see {}", node.name, node.log_file().display()))
    }

    async fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let socket = Socket::of(data_dir)?;
        let stream = UnixStream::connect(socket.address()).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong on it is reported by the request that it breaks.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn status(&mut self) -> anyhow::Result<Status> {
        self.ask(Method::GET, "/status", &()).await
    }

    pub async fn create_token(&mut self, request: &TokenRequest) -> anyhow::Result<JoinInfo> {
        self.ask(Method::POST, "/tokens", request).await
    }

    /// Stops all pods' containers.
    pub async fn stop_pods(&mut self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/pods/stop", &()).await
    }

    pub async fn images(&mut self) -> anyhow::Result<Vec<Image>> {
        self.ask(Method::GET, "/images", &()).await
    }

    /// The names that the archive's images have now.
    pub async fn import(&mut self, request: &ImportRequest) -> anyhow::Result<Vec<String>> {
        self.ask(Method::POST, "/images/import", request).await
    }

    pub async fn pull(&mut self, request: &PullRequest) -> anyhow::Result<Image> {
        self.ask(Method::POST, "/images/pull", request).await
    }

    pub async fn remove_image(&mut self, request: &PullRequest) -> anyhow::Result<()> {
        self.ask(Method::POST, "/images/remove", request).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = Full::new(Bytes::from(serde_json::to_vec(body)?));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "knarr")
            .header("content-type", "application/json")
            .body(body)?;
        let response = self.sender.send_request(request).await?;
        let succeeded = response.status().is_success();
        let answer = response.into_body().collect().await?.to_bytes();
        if !succeeded {
            let failure: Failure = serde_json::from_slice(&answer)?;
            bail!(failure.message);
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}
