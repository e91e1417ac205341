//! The command line's end.

use std::path::Path;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use knarr_runtime::build::Request;
use knarr_runtime::image::Description;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{
    BuildEvent, Failure, Image, ImportRequest, JoinInfo, PullRequest, PushRequest, SaveRequest, Saved,
    SnapshotRequest, Socket, Status, TagRequest, TokenRequest,
};
use crate::cluster::{Cluster, LocalNode, Lock};

/// Longest line of a build's progress, in bytes.
const MAX_LINE: usize = 1 << 20;

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

    pub async fn tag(&mut self, request: &TagRequest) -> anyhow::Result<()> {
        self.ask(Method::POST, "/images/tag", request).await
    }

    pub async fn inspect(&mut self, request: &PullRequest) -> anyhow::Result<Description> {
        self.ask(Method::POST, "/images/inspect", request).await
    }

    pub async fn save(&mut self, request: &SaveRequest) -> anyhow::Result<()> {
        self.ask(Method::POST, "/images/save", request).await
    }

    /// The digest that the image has in its registry.
    pub async fn push(&mut self, request: &PushRequest) -> anyhow::Result<String> {
        self.ask(Method::POST, "/images/push", request).await
    }

    /// Builds an image; `tell` hears what happens meanwhile.
    pub async fn build(&mut self, request: &Request, tell: impl Fn(&str)) -> anyhow::Result<Image> {
        let mut body = self.send(Method::POST, "/images/build", request).await?.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match serde_json::from_slice(&line)? {
                    BuildEvent::Line(line) => tell(&line),
                    BuildEvent::Done(image) => return Ok(image),
                    BuildEvent::Failed(message) => bail!(message),
                }
            }
            anyhow::ensure!(pending.len() <= MAX_LINE, "the build's answer has a line without end");
        }
        bail!("the build ended without an answer")
    }

    pub async fn save_snapshot(&mut self, request: &SnapshotRequest) -> anyhow::Result<Saved> {
        self.ask(Method::POST, "/snapshots", request).await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let response = self.send(method, path, body).await?;
        let succeeded = response.status().is_success();
        let answer = response.into_body().collect().await?.to_bytes();
        if !succeeded {
            let failure: Failure = serde_json::from_slice(&answer)?;
            bail!(failure.message);
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<hyper::Response<hyper::body::Incoming>> {
        let body = Full::new(Bytes::from(serde_json::to_vec(body)?));
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "knarr")
            .header("content-type", "application/json")
            .body(body)?;
        Ok(self.sender.send_request(request).await?)
    }
}
