//! The runtime inside knarr: state in files, one shim process per container, no daemon.
//!
//! ```text
//! <root>/images.json, blobs/, layers/, tmp/   see `image`
//! <root>/containers/<id>/                     container.json, config.json, launch.json, shim.json, exit.json,
//!                                             sock, upper/, work/, rootfs/ (mounted)
//! <root>/sandboxes/<id>.json
//! <state>/sandboxes/<id>/                     net, ipc, uts, user (pinned), shm/, resolv.conf, hostname
//! ```
//!
//! Files are written before what they describe is made, and removed after it is gone: whatever is found at start
//! can be removed.

pub(crate) mod build;
mod client;
mod config;
mod container;
mod create;
mod destroy;
mod error;
mod events;
mod exec;
mod images;
mod namespaces;
mod sandbox;
mod snapshot;
mod spawn;
mod state;
mod stats;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::net::TcpStream;

pub use config::Config;

use crate::cri::*;
use state::Inner;

/// The embedded runtime. Cheap to clone; all clones are the same runtime.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

impl Embedded {
    /// Opens the runtime and finds again what an earlier process left running.
    pub async fn open(config: Config) -> Result<Self> {
        Ok(Embedded { inner: Inner::open(config).await? })
    }

    /// Imports an image archive; returns the images with their names.
    pub async fn import_image(&self, archive: impl std::io::Read + Send + 'static) -> Result<Vec<ImageInfo>> {
        let store = Arc::clone(&self.inner.store);
        error::blocking("import image", move || crate::image::import(&store, archive)).await
    }

    /// Keeps an image from being collected: one that no registry has.
    pub async fn pin_image(&self, reference: &str) -> Result<ImageInfo> {
        let (store, reference) = (Arc::clone(&self.inner.store), reference.to_owned());
        error::blocking("pin image", move || store.pin(&reference)).await
    }

    /// Builds an image; what happens is told line by line.
    pub async fn build_image(
        &self,
        request: &crate::build::Request,
        progress: &crate::build::Progress,
    ) -> Result<ImageInfo> {
        self.inner.build(request, progress).await
    }

    /// Gives an image one more name.
    pub async fn tag_image(&self, name: &str, tag: &str) -> Result<()> {
        let (store, name, tag) = (Arc::clone(&self.inner.store), name.to_owned(), tag.to_owned());
        error::blocking("tag image", move || store.tag(&name, &tag.parse()?)).await
    }

    /// All that is known of an image.
    pub async fn inspect_image(&self, name: &str) -> Result<crate::image::Description> {
        let (store, name) = (Arc::clone(&self.inner.store), name.to_owned());
        error::blocking("inspect image", move || crate::image::inspect(&store, &name)).await
    }

    /// Writes images as an archive that [`Self::import_image`] and other tools read.
    pub async fn save_images(
        &self,
        names: Vec<String>,
        archive: impl std::io::Write + Send + 'static,
    ) -> Result<()> {
        let store = Arc::clone(&self.inner.store);
        error::blocking("save images", move || crate::image::save(&store, &names, archive)).await
    }

    /// Brings an image to its registry; returns the digest that it has there.
    pub async fn push_image(&self, name: &str, auth: Option<AuthConfig>) -> Result<String> {
        self.inner.push_image(name, auth).await
    }

    /// Lets go of the runtime and leaves every container running.
    pub async fn close(self) {
        self.inner.close();
    }

    /// Ends and removes everything below this runtime's directories and cgroups.
    pub async fn destroy(self) -> Result<()> {
        self.inner.close();
        let config = self.inner.config.clone();
        destroy::destroy(config).await
    }
}

#[async_trait]
impl ContainerRuntime for Embedded {
    async fn info(&self) -> Result<RuntimeInfo> {
        self.inner.info()
    }

    async fn apply_pod_cgroup(&self, cgroup: &str, resources: &Resources) -> Result<()> {
        let (inner, cgroup, resources) = (Arc::clone(&self.inner), cgroup.to_owned(), resources.clone());
        error::blocking("apply cgroup", move || inner.cgroups.apply(&cgroup, &resources, true)).await
    }

    async fn remove_pod_cgroup(&self, cgroup: &str) -> Result<()> {
        let (inner, cgroup) = (Arc::clone(&self.inner), cgroup.to_owned());
        error::blocking("remove cgroup", move || inner.cgroups.remove(&cgroup)).await
    }

    async fn list_pod_cgroups(&self, parent: &str) -> Result<Vec<String>> {
        let parent = parent.trim_end_matches('/').to_owned();
        let names = self.inner.cgroups.children(&parent).map_err(error::failed("list cgroups"))?;
        Ok(names.into_iter().map(|name| format!("{parent}/{name}")).collect())
    }

    async fn cgroup_stats(&self, cgroup: &str) -> Result<ContainerStats> {
        self.inner.cgroup_stats(cgroup)
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus> {
        self.inner.run_sandbox(config).await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        self.inner.stop_sandbox(id).await
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.inner.remove_sandbox(id).await
    }

    async fn sandbox_status(&self, id: &str) -> Result<SandboxStatus> {
        Ok(self.inner.sandbox(id)?.status())
    }

    async fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>> {
        Ok(self.inner.sandboxes.read().values().map(|sandbox| sandbox.status()).collect())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId> {
        self.inner.create_container(sandbox, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.inner.start_container(id).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        self.inner.stop_container(id, grace).await
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.inner.remove_container(id).await
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let container = self.inner.container(id)?;
        Ok(self.inner.status_of(&container, true))
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        let containers = self.inner.containers_of(sandbox);
        Ok(containers.iter().map(|container| self.inner.status_of(container, false)).collect())
    }

    async fn update_container_resources(&self, id: &str, resources: &Resources) -> Result<()> {
        self.inner.update_resources(id, resources).await
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        self.inner.container_stats(id).await
    }

    async fn container_disk_usage(&self, id: &str) -> Result<DiskUsage> {
        self.inner.container_disk_usage(id).await
    }

    async fn reopen_container_log(&self, id: &str) -> Result<()> {
        self.inner.reopen_log(id).await
    }

    async fn events(&self) -> Result<BoxStream<'static, ContainerEvent>> {
        Ok(self.inner.events.subscribe())
    }

    async fn exec_sync(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecResult> {
        self.inner.exec_sync(id, command, timeout).await
    }

    async fn exec(&self, id: &str, command: &[String], options: StreamOptions) -> Result<Streams> {
        self.inner.exec(id, command, options).await
    }

    async fn attach(&self, id: &str, options: StreamOptions) -> Result<Streams> {
        self.inner.attach(id, options).await
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<TcpStream> {
        self.inner.port_forward(sandbox, port).await
    }

    async fn pull_image(&self, reference: &str, auth: Option<AuthConfig>) -> Result<ImageInfo> {
        self.inner.pull_image(reference, auth).await
    }

    async fn image_status(&self, reference: &str) -> Result<Option<ImageInfo>> {
        Ok(self.inner.store.find(reference).map(|record| record.info()))
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        Ok(self.inner.store.list())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        let (store, reference) = (Arc::clone(&self.inner.store), reference.to_owned());
        error::blocking("remove image", move || store.remove(&reference)).await
    }

    async fn forget_build_cache(&self) -> Result<()> {
        let store = Arc::clone(&self.inner.store);
        error::blocking("forget the build cache", move || store.forget_cache()).await
    }

    fn image_directory(&self) -> Option<std::path::PathBuf> {
        Some(self.inner.config.root.clone())
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage> {
        self.inner.image_filesystem().await
    }
}

/// Labels of nothing, for statistics of cgroups.
fn no_labels() -> BTreeMap<String, String> {
    BTreeMap::new()
}
