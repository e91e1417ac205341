//! A runtime that is a state machine: simulated nodes run thousands of pods without a kernel. Images are always
//! there, containers start at once and run until they are stopped, told to end, or have run as long as their pod's
//! annotation says.

mod fleet;
mod prober;
mod state;

pub use fleet::{Fleet, FleetError};
pub use prober::SimProber;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use knarr_api::time::SharedClock;
use knarr_runtime::cri::*;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use state::State;

/// Seconds after which a pod's containers end, and their exit code: `30` or `30,1`.
pub const RUN_SECONDS: &str = "sim.knarr.io/run-seconds";

/// Events a slow listener may fall behind.
const EVENTS: usize = 1024;

/// Cheap to clone; all clones are one node's runtime.
#[derive(Clone)]
pub struct SimRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SharedClock,
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEvent>,
}

fn not_found(what: &'static str, id: &str) -> Error {
    Error::NotFound { what, id: id.to_owned() }
}

impl SimRuntime {
    /// Pods get addresses counted up from `first`.
    pub fn new(clock: SharedClock, first: Ipv4Addr) -> Self {
        let (events, _) = broadcast::channel(EVENTS);
        Self { inner: Arc::new(Inner { clock, state: Mutex::new(State::new(first)), events }) }
    }

    fn now(&self) -> UnixNanos {
        i64::try_from(self.inner.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    fn tell(&self, kind: ContainerEventKind, status: &ContainerStatus) {
        let pod_uid = status.labels.get("io.kubernetes.pod.uid").cloned().unwrap_or_default();
        // Nobody listening is no error.
        let _ = self.inner.events.send(ContainerEvent {
            kind,
            sandbox_id: status.sandbox_id.clone(),
            container_id: status.id.clone(),
            pod_uid,
        });
    }

    /// No registry has this image (any more), or one has it again. Only pulls notice.
    pub fn set_pullable(&self, reference: &str, pullable: bool) {
        let mut state = self.inner.state.lock();
        if pullable {
            state.missing_images.remove(reference);
        } else {
            state.missing_images.insert(reference.to_owned());
        }
    }

    /// How long a pull takes from now on; at first no time at all.
    pub fn set_pull_time(&self, takes: Duration) {
        self.inner.state.lock().pulls_take = takes;
    }

    /// Ends a running container, as its process would.
    pub fn finish(&self, id: &str, exit_code: i32) -> Result<()> {
        let now = self.now();
        let mut state = self.inner.state.lock();
        let status = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        if status.state != ContainerState::Running {
            return Ok(());
        }
        status.state = ContainerState::Exited;
        status.exit_code = exit_code;
        status.finished_at = now;
        status.reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
        status.pid = None;
        let status = status.clone();
        drop(state);
        self.tell(ContainerEventKind::Stopped, &status);
        Ok(())
    }

    fn end_later(&self, id: &str, after: Duration, exit_code: i32) {
        let (weak, id) = (Arc::downgrade(&self.inner), id.to_owned());
        // Ends by itself: the timer fires once, and a runtime that is gone needs no news.
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(inner) = weak.upgrade()
                && let Err(error) = (SimRuntime { inner }).finish(&id, exit_code)
            {
                tracing::debug!(%error, "container was removed before it ended");
            }
        });
    }
}

#[async_trait]
impl ContainerRuntime for SimRuntime {
    async fn info(&self) -> Result<RuntimeInfo> {
        Ok(RuntimeInfo {
            name: "sim".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: true,
            message: String::new(),
            handlers: vec![(String::new(), HandlerFeatures::default())],
        })
    }

    async fn apply_pod_cgroup(&self, cgroup: &str, _: &Resources) -> Result<()> {
        self.inner.state.lock().cgroups.insert(cgroup.to_owned());
        Ok(())
    }

    async fn remove_pod_cgroup(&self, cgroup: &str) -> Result<()> {
        self.inner.state.lock().cgroups.remove(cgroup);
        Ok(())
    }

    async fn list_pod_cgroups(&self, parent: &str) -> Result<Vec<String>> {
        let prefix = format!("{parent}/pod");
        let state = self.inner.state.lock();
        Ok(state.cgroups.iter().filter(|cgroup| cgroup.starts_with(&prefix)).cloned().collect())
    }

    async fn cgroup_stats(&self, _: &str) -> Result<ContainerStats> {
        Ok(ContainerStats { timestamp: self.now(), ..ContainerStats::default() })
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus> {
        let now = self.now();
        Ok(self.inner.state.lock().add_sandbox(config, now))
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let running: Vec<String> = {
            let mut state = self.inner.state.lock();
            let Some(sandbox) = state.sandboxes.get_mut(id) else { return Ok(()) };
            sandbox.state = SandboxState::NotReady;
            sandbox.ips.clear();
            state.containers.values().filter(|c| c.sandbox_id == id).map(|c| c.id.clone()).collect()
        };
        running.iter().try_for_each(|id| self.finish(id, 137))
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let mut state = self.inner.state.lock();
        state.sandboxes.remove(id);
        state.containers.retain(|_, container| container.sandbox_id != id);
        Ok(())
    }

    async fn sandbox_status(&self, id: &str) -> Result<SandboxStatus> {
        self.inner.state.lock().sandboxes.get(id).cloned().ok_or_else(|| not_found("sandbox", id))
    }

    async fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>> {
        Ok(self.inner.state.lock().sandboxes.values().cloned().collect())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<ContainerId> {
        let now = self.now();
        let mut state = self.inner.state.lock();
        if !state.sandboxes.contains_key(sandbox) {
            return Err(not_found("sandbox", sandbox));
        }
        let status = state.add_container(sandbox, config, now);
        drop(state);
        self.tell(ContainerEventKind::Created, &status);
        Ok(status.id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let now = self.now();
        let (status, ends) = {
            let mut state = self.inner.state.lock();
            let status = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
            status.state = ContainerState::Running;
            status.started_at = now;
            let status = status.clone();
            let ends = state.sandboxes.get(&status.sandbox_id).and_then(|s| state::run_time(&s.annotations));
            (status, ends)
        };
        if let Some((after, exit_code)) = ends {
            self.end_later(id, after, exit_code);
        }
        self.tell(ContainerEventKind::Started, &status);
        Ok(())
    }

    async fn stop_container(&self, id: &str, _: Duration) -> Result<()> {
        // 128 + SIGTERM: obedient processes.
        match self.finish(id, 143) {
            Err(Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let removed = self.inner.state.lock().containers.remove(id);
        if let Some(status) = removed {
            self.tell(ContainerEventKind::Deleted, &status);
        }
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        self.inner.state.lock().containers.get(id).cloned().ok_or_else(|| not_found("container", id))
    }

    async fn list_containers(&self, sandbox: Option<&str>) -> Result<Vec<ContainerStatus>> {
        let state = self.inner.state.lock();
        let wanted = |c: &&ContainerStatus| sandbox.is_none_or(|sandbox| c.sandbox_id == sandbox);
        Ok(state.containers.values().filter(wanted).cloned().collect())
    }

    async fn update_container_resources(&self, id: &str, resources: &Resources) -> Result<()> {
        let mut state = self.inner.state.lock();
        let status = state.containers.get_mut(id).ok_or_else(|| not_found("container", id))?;
        status.resources = Some(resources.clone());
        Ok(())
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let status = self.container_status(id).await?;
        Ok(ContainerStats {
            id: status.id,
            metadata: status.metadata,
            labels: status.labels,
            timestamp: self.now(),
            ..ContainerStats::default()
        })
    }

    async fn container_disk_usage(&self, _: &str) -> Result<DiskUsage> {
        Ok(DiskUsage::default())
    }

    async fn reopen_container_log(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn events(&self) -> Result<BoxStream<'static, ContainerEvent>> {
        let stream = BroadcastStream::new(self.inner.events.subscribe());
        Ok(stream.scan((), |(), event| std::future::ready(event.ok())).boxed())
    }

    async fn exec_sync(&self, id: &str, _: &[String], _: Duration) -> Result<ExecResult> {
        self.container_status(id).await.map(|_| ExecResult::default())
    }

    async fn exec(&self, _: &str, _: &[String], _: StreamOptions) -> Result<Streams> {
        Err(Error::Invalid("a simulated container runs no commands".to_owned()))
    }

    async fn attach(&self, _: &str, _: StreamOptions) -> Result<Streams> {
        Err(Error::Invalid("a simulated container has no streams".to_owned()))
    }

    async fn port_forward(&self, _: &str, _: u16) -> Result<tokio::net::TcpStream> {
        Err(Error::Invalid("a simulated pod listens on no port".to_owned()))
    }

    async fn pull_image(&self, reference: &str, _: Option<AuthConfig>) -> Result<ImageInfo> {
        let (missing, takes) = {
            let state = self.inner.state.lock();
            (state.missing_images.contains(reference), state.pulls_take)
        };
        if missing {
            return Err(not_found("image", reference));
        }
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        Ok(state::image(reference))
    }

    async fn image_status(&self, reference: &str) -> Result<Option<ImageInfo>> {
        Ok(Some(state::image(reference)))
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        Ok(Vec::new())
    }

    async fn remove_image(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn image_directory(&self) -> Option<std::path::PathBuf> {
        None
    }

    async fn image_filesystem(&self) -> Result<FilesystemUsage> {
        Ok(FilesystemUsage::default())
    }
}
