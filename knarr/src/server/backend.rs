//! What the command line may ask of this process, answered by its components.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use knarr_client::{Api, Client};
use knarr_runtime::cri::{ContainerRuntime, ImageInfo, SandboxState};
use knarr_runtime::embedded::Embedded;
use kube::api::ListParams;
use tokio::time::Instant;

use super::control_plane::ControlPlane;
use super::node::Node;
use super::ready;
use super::settings::Settings;
use super::tasks::Tasks;
use crate::control::{self, Image, Status};

/// Time for a container to end when the cluster is stopped with its pods.
const GRACE: Duration = Duration::from_secs(10);

struct Backend {
    settings: Arc<Settings>,
    client: Client,
    runtime: Arc<Embedded>,
    started: Instant,
}

pub fn start(
    settings: &Arc<Settings>,
    control_plane: &ControlPlane,
    node: &Node,
    tasks: &mut Tasks,
) -> anyhow::Result<()> {
    let backend = Arc::new(Backend {
        settings: settings.clone(),
        client: control_plane.admin(),
        runtime: node.runtime.clone(),
        started: Instant::now(),
    });
    let directory = settings.cluster.data_dir.clone();
    tasks.spawn("control socket", |stop| async move { control::serve(&directory, backend, stop).await });
    Ok(())
}

#[async_trait]
impl control::Backend for Backend {
    async fn status(&self) -> anyhow::Result<Status> {
        let nodes: Api<NodeObject> = Api::all(self.client.clone());
        let node = nodes.get(&self.settings.node_name).await.context("asking for the node")?;
        let state = ready::state(&node);
        let pods: Api<Pod> = Api::all(self.client.clone());
        let running = pods.list_metadata(&ListParams::default().fields("status.phase=Running")).await?;
        Ok(Status {
            version: crate::commands::version::LONG.to_owned(),
            pid: std::process::id(),
            api_server: self.settings.server_url(),
            node: self.settings.node_name.clone(),
            ready: state.is_ok(),
            message: state.err().unwrap_or_default(),
            uptime_seconds: self.started.elapsed().as_secs(),
            pods: running.items.len(),
            resident_bytes: resident_bytes()?,
        })
    }

    async fn stop_pods(&self) -> anyhow::Result<()> {
        let containers = self.runtime.list_containers(None).await?;
        let stopping = containers.iter().map(|container| self.runtime.stop_container(&container.id, GRACE));
        futures::future::try_join_all(stopping).await?;
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
        Ok(images.into_iter().flat_map(|image| shown(image).names).collect())
    }

    async fn pull(&self, reference: &str) -> anyhow::Result<Image> {
        Ok(shown(self.runtime.pull_image(reference, None).await?))
    }

    async fn remove_image(&self, reference: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.runtime.image_status(reference).await?.is_some(), "image {reference} not found");
        Ok(self.runtime.remove_image(reference).await?)
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
