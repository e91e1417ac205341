//! What the command line may ask of this process, answered by its components.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use knarr_client::Client;
use knarr_runtime::build::{Progress, Request};
use knarr_runtime::cri::{AuthConfig, ContainerRuntime, ImageInfo, SandboxState};
use knarr_runtime::embedded::Embedded;
use knarr_runtime::image::Description;
use kube::Api;
use kube::api::ListParams;
use tokio::time::Instant;

use super::control_plane::ControlPlane;
use super::node::Node;
use super::settings::{NodeSettings, Settings};
use super::tasks::{Component, Tasks};
use super::{ready, tokens};
use crate::control::{self, Image, JoinInfo, PushRequest, SaveRequest, Saved, Status};

/// Time for a container to end when the cluster is stopped with its pods.
const GRACE: Duration = Duration::from_secs(10);

struct Backend {
    client: Client,
    api_server: String,
    node: String,
    runtime: Arc<Embedded>,
    kubelet: Component,
    started: Instant,
    /// Only the control plane lets machines join.
    control_plane: Option<Arc<ControlPlane>>,
}

/// For the process that has the control plane.
pub fn start(
    settings: &Settings,
    control_plane: &Arc<ControlPlane>,
    node: &Node,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let backend = Backend {
        client: control_plane.admin(),
        api_server: settings.server_url(),
        node: settings.node_name.clone(),
        runtime: node.runtime.clone(),
        kubelet: node.kubelet.clone(),
        started: Instant::now(),
        control_plane: Some(control_plane.clone()),
    };
    serve(backend, &settings.cluster.data_dir, tasks)
}

/// For a process that is a node and nothing else.
pub fn start_agent(
    settings: &NodeSettings,
    api_server: &http::Uri,
    client: &Client,
    node: &Node,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let backend = Backend {
        client: client.clone(),
        api_server: api_server.to_string(),
        node: settings.node_name.clone(),
        runtime: node.runtime.clone(),
        kubelet: node.kubelet.clone(),
        started: Instant::now(),
        control_plane: None,
    };
    serve(backend, &settings.data_dir, tasks)
}

/// Listens at once: who is told that the node is ready may ask.
fn serve(backend: Backend, directory: &Path, tasks: &mut Tasks) -> anyhow::Result<()> {
    let (listening, backend) = (control::listen(directory)?, Arc::new(backend));
    tasks.spawn("control socket", |stop| async move { control::serve(listening, backend, stop).await });
    Ok(())
}

impl Backend {
    fn control_plane(&self) -> anyhow::Result<&Arc<ControlPlane>> {
        self.control_plane.as_ref().context("this is a node: ask where the API server runs")
    }

    async fn stop_containers(&self) -> anyhow::Result<()> {
        let containers = self.runtime.list_containers(None).await?;
        let stopping = containers.iter().map(|container| self.runtime.stop_container(&container.id, GRACE));
        futures::future::try_join_all(stopping).await?;
        Ok(())
    }
}

#[async_trait]
impl control::Backend for Backend {
    async fn status(&self) -> anyhow::Result<Status> {
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let node = nodes.get(&self.node).await.context("asking for the node")?;
        let state = ready::state(&node);
        let pods: Api<Pod> = Api::all(self.client.clone());
        let of_node = format!("status.phase=Running,spec.nodeName={}", self.node);
        let running = pods.list_metadata(&ListParams::default().fields(&of_node)).await?;
        Ok(Status {
            version: crate::commands::version::LONG.to_owned(),
            pid: std::process::id(),
            api_server: self.api_server.clone(),
            node: self.node.clone(),
            ready: state.is_ok(),
            message: state.err().unwrap_or_default(),
            uptime_seconds: self.started.elapsed().as_secs(),
            pods: running.items.len(),
            resident_bytes: resident_bytes()?,
        })
    }

    async fn create_token(&self, ttl: Duration) -> anyhow::Result<JoinInfo> {
        let control_plane = self.control_plane()?;
        let ttl = jiff::SignedDuration::try_from(ttl).context("the token's time to live")?;
        let (authority, now) = (&control_plane.pki.ca, control_plane.clock.now());
        let token = tokens::create(&self.client, authority, now, ttl).await?;
        Ok(JoinInfo { server: control_plane.advertised.clone(), token: token.to_string() })
    }

    async fn stop_pods(&self) -> anyhow::Result<()> {
        // The kubelet would start again what ends here. A container that it was about to start is stopped after it.
        self.kubelet.stop();
        tokio::try_join!(self.stop_containers(), self.kubelet.ended())?;
        self.stop_containers().await?;
        for sandbox in self.runtime.list_sandboxes().await? {
            if sandbox.state == SandboxState::Ready {
                self.runtime.stop_sandbox(&sandbox.id).await?;
            }
        }
        Ok(())
    }

    async fn images(&self) -> anyhow::Result<Vec<Image>> {
        Ok(self.runtime.list_images().await?.into_iter().map(shown).collect())
    }

    async fn import(&self, archive: &Path) -> anyhow::Result<Vec<String>> {
        let file = std::fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
        let images = self.runtime.import_image(file).await?;
        let names: Vec<String> = images.into_iter().flat_map(|image| shown(image).names).collect();
        for name in &names {
            // No registry may have it, so a full disk must not cost it.
            self.runtime.pin_image(name).await.with_context(|| format!("keeping image {name}"))?;
        }
        Ok(names)
    }

    async fn pull(&self, reference: &str) -> anyhow::Result<Image> {
        Ok(shown(self.runtime.pull_image(reference, None).await?))
    }

    async fn tag(&self, name: &str, tag: &str) -> anyhow::Result<()> {
        Ok(self.runtime.tag_image(name, tag).await?)
    }

    async fn inspect(&self, name: &str) -> anyhow::Result<Description> {
        Ok(self.runtime.inspect_image(name).await?)
    }

    async fn save(&self, request: SaveRequest) -> anyhow::Result<()> {
        let path = request.path;
        let file = std::fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(self.runtime.save_images(request.names, std::io::BufWriter::new(file)).await?)
    }

    async fn push(&self, request: PushRequest) -> anyhow::Result<String> {
        let auth = request.credentials.map(|(username, password)| AuthConfig {
            username,
            password,
            ..AuthConfig::default()
        });
        Ok(self.runtime.push_image(&request.reference, auth).await?)
    }

    async fn build(&self, request: Request, progress: Progress) -> anyhow::Result<Image> {
        Ok(shown(self.runtime.build_image(&request, &progress).await?))
    }

    async fn remove_image(&self, reference: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.runtime.image_status(reference).await?.is_some(), "image {reference} not found");
        Ok(self.runtime.remove_image(reference).await?)
    }

    async fn save_snapshot(&self, file: &Path) -> anyhow::Result<Saved> {
        let control_plane = self.control_plane()?;
        let store = control_plane.embedded.as_ref();
        let store =
            store.context("the cluster keeps its objects in etcd: save them with etcdctl snapshot")?;
        let saved = store.save_snapshot(file).await;
        let revision = saved.with_context(|| format!("saving to {}", file.display()))?;
        Ok(Saved { revision: revision.0 })
    }
}

fn shown(image: ImageInfo) -> Image {
    let names = if image.repo_tags.is_empty() { image.repo_digests } else { image.repo_tags };
    Image { names, digest: image.id, size: image.size }
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmRSS")?;
    Ok(kilobytes << 10)
}
