//! What a build needs of the runtime: mounted roots, containers for RUN, layers and images in the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::unix::pipe;

use super::create::Base;
use super::error::failed;
use super::snapshot::Snapshot;
use super::state::{self, Inner};
use crate::build::stage::Stage;
use crate::build::{Error, Network, Progress, Result, changes, io_error};
use crate::cri::*;
use crate::image::auth::Credentials;
use crate::image::digest::{Digest, Hashing, chain_ids};
use crate::image::manifest::{self, Descriptor, Manifest, RunConfig};
use crate::image::reference::Reference;
use crate::image::{self, Cached, Layer, Lease, Record, Store};

/// Where the containers of RUN are, below the runtime's own cgroup.
const CGROUP: &str = "/builds";
/// What a step's program may do is what a pod's may by default.
const MASKED: [&str; 6] =
    ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Mount points that a container makes in its root where the image has none.
const MOUNT_POINTS: [&str; 7] = ["etc/resolv.conf", "etc/hostname", "etc/hosts", "etc", "proc", "sys", "dev"];

/// A build's hold on the runtime: nothing that it made or found is collected while it lives.
pub struct Builder {
    inner: Arc<Inner>,
    lease: Lease,
}

/// A RUN.
pub struct Run {
    pub layers: Vec<Layer>,
    pub image: RunConfig,
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub network: Network,
}

/// A RUN that has ended; must be given to [`Builder::remove`].
pub struct Ran {
    pub exit_code: i32,
    sandbox: StepSandbox,
    container: ContainerId,
    /// Mount points that the image did not have.
    stubs: Vec<&'static str>,
}

/// A RUN's sandbox. Whoever waits for a build may hang up at any moment, and then this takes it away.
struct StepSandbox {
    inner: Arc<Inner>,
    id: Option<SandboxId>,
}

impl StepSandbox {
    async fn remove(mut self) -> Result<()> {
        match self.id.take() {
            Some(id) => Ok(self.inner.remove_sandbox(&id).await?),
            None => Ok(()),
        }
    }
}

impl Drop for StepSandbox {
    fn drop(&mut self) {
        let (Some(id), Ok(runtime)) = (self.id.take(), tokio::runtime::Handle::try_current()) else { return };
        let inner = Arc::clone(&self.inner);
        runtime.spawn(async move {
            if let Err(error) = inner.remove_sandbox(&id).await {
                // The next start removes it as a pod that nobody knows.
                tracing::warn!(sandbox = id, %error, "cannot remove the container of an abandoned build");
            }
        });
    }
}

/// A root that is mounted until this is dropped.
pub struct MountedRoot {
    pub root: PathBuf,
    directory: PathBuf,
}

impl Drop for MountedRoot {
    fn drop(&mut self) {
        let removed =
            Snapshot::new(&self.directory).unmount().and_then(|()| std::fs::remove_dir_all(&self.directory));
        if let Err(error) = removed {
            // The next start removes it: it has no container's record.
            tracing::warn!(directory = %self.directory.display(), %error, "cannot remove a build's root");
        }
    }
}

impl Builder {
    pub fn new(inner: &Arc<Inner>) -> Self {
        Self { inner: Arc::clone(inner), lease: inner.store.lease() }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Runs what blocks where that is fine.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|panicked| Err(io_error("build")(std::io::Error::other(panicked))))
    }

    /// What a stage begins with: an image of this node or of its registry, or nothing.
    pub async fn base(&self, name: &str, pull: bool, escape: char, progress: &Progress) -> Result<Stage> {
        if name == "scratch" {
            return Ok(Stage::scratch(escape));
        }
        let reference: Reference =
            name.parse().map_err(|error| Error::Invalid(format!("invalid image {name:?}: {error}")))?;
        let local = reference.registry() == image::LOCAL_REGISTRY;
        if (pull || self.store().find(name).is_none()) && !local {
            // Whoever asked may have hung up.
            let _unheard = progress.send(format!("pulling {reference}"));
            self.inner.puller.pull(&reference, Credentials::default()).await?;
        }
        let record = self.store().find(name).ok_or_else(|| image::Error::NotFound(name.to_owned()))?;
        self.hold(&record);
        let config = self.store().document(&record.id)?;
        let manifest: Manifest = manifest::parse("manifest", &self.store().document(&record.manifest)?)?;
        Stage::on(record, &config, manifest.layers, escape)
    }

    fn hold(&self, record: &Record) {
        self.lease.hold([record.id.clone(), record.manifest.clone()]);
        self.lease.hold(record.blobs.iter().cloned());
        self.lease.hold(record.layers.iter().map(|layer| layer.chain_id.clone()));
    }

    pub fn hold_cached(&self, made: &Cached) {
        self.lease.hold([made.layer.chain_id.clone(), made.blob.digest.clone()]);
    }

    /// Layers as one directory that can be written to.
    pub fn mount(&self, layers: &[Layer]) -> Result<MountedRoot> {
        let id = state::new_id().map_err(io_error("make an id"))?;
        let directory = self.inner.container_directory(&id);
        state::create_private(&directory).map_err(io_error(format!("create {}", directory.display())))?;
        let snapshot = Snapshot::new(&directory);
        let mounted = MountedRoot { root: snapshot.rootfs(), directory };
        snapshot.mount(self.store(), layers, None).map_err(io_error("mount the root of a step"))?;
        Ok(mounted)
    }

    /// Runs a command to its end, its output told line by line.
    pub async fn run(&self, step: Run, progress: &Progress) -> Result<Ran> {
        let directory = self.store().temporary();
        std::fs::create_dir(&directory).map_err(io_error("create a directory for a step"))?;
        let ran = self.run_in(&directory, step, progress).await;
        std::fs::remove_dir_all(&directory).map_err(io_error("remove a step's directory"))?;
        ran
    }

    async fn run_in(&self, directory: &Path, step: Run, progress: &Progress) -> Result<Ran> {
        let log = directory.join("output");
        // The container's log is this pipe: nothing is stored, and nobody asks again and again for more.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &log,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .map_err(|error| io_error("create a pipe")(error.into()))?;
        let output =
            pipe::OpenOptions::new().read_write(true).open_receiver(&log).map_err(io_error("open a pipe"))?;
        let id = self.inner.run_sandbox(sandbox(directory, step.network)).await?.id;
        let sandbox = StepSandbox { inner: Arc::clone(&self.inner), id: Some(id.clone()) };
        let mut config = container(&step, directory);
        config.log_path = PathBuf::from("output");
        let base =
            Base { image_id: "build".to_owned(), layers: step.layers.clone(), run: step.image.clone() };
        let mut ran = Ran { exit_code: 0, sandbox, container: String::new(), stubs: Vec::new() };
        match self.run_container(&id, &mut ran, config, base, output, progress).await {
            Ok(()) => Ok(ran),
            Err(error) => {
                self.remove(ran).await?;
                Err(error)
            }
        }
    }

    async fn run_container(
        &self,
        sandbox: &str,
        ran: &mut Ran,
        config: ContainerConfig,
        base: Base,
        output: pipe::Receiver,
        progress: &Progress,
    ) -> Result<()> {
        ran.container = self.inner.create_from(sandbox, config, base).await?;
        let upper = Snapshot::new(&self.inner.container_directory(&ran.container));
        let root = upper.rootfs();
        let missing = |path: &&&str| root.join(path).symlink_metadata().is_err();
        ran.stubs = MOUNT_POINTS.iter().filter(missing).copied().collect();
        self.inner.start_container(&ran.container).await?;
        let container = self.inner.container(&ran.container)?;
        let mut lines = Lines { progress, pending: Vec::new() };
        tokio::select! {
            () = container.ended() => {}
            read = lines.read(&output) => read.map_err(io_error("read a step's output"))?,
        }
        lines.rest(&output).map_err(io_error("read a step's output"))?;
        ran.exit_code = self.inner.status_of(&container, false).exit_code;
        Ok(())
    }

    /// What a RUN changed, as a layer above `below`.
    pub async fn commit(&self, ran: &Ran, below: &[Layer], now: &str) -> Result<Cached> {
        let snapshot = Snapshot::new(&self.inner.container_directory(&ran.container));
        snapshot.unmount().map_err(io_error("unmount the root of a step"))?;
        for stub in &ran.stubs {
            remove_stub(&snapshot.upper().join(stub)).map_err(io_error(format!("remove {stub}")))?;
        }
        self.commit_upper(snapshot.upper(), below, now).await
    }

    pub async fn commit_mounted(&self, mounted: &MountedRoot, below: &[Layer], now: &str) -> Result<Cached> {
        let snapshot = Snapshot::new(&mounted.directory);
        snapshot.unmount().map_err(io_error("unmount the root of a step"))?;
        self.commit_upper(snapshot.upper(), below, now).await
    }

    async fn commit_upper(&self, upper: PathBuf, below: &[Layer], now: &str) -> Result<Cached> {
        let store = Arc::clone(&self.inner.store);
        let diff_ids: Vec<Digest> = below.iter().map(|layer| layer.diff_id.clone()).collect();
        let now = now.to_owned();
        let archived = self.inner.store.temporary();
        let path = archived.clone();
        let from = upper.clone();
        let (digest, size, bytes) = self.blocking(move || pack(&from, &path)).await?;
        let chain_id = chain_ids(&[diff_ids, vec![digest.clone()]].concat())
            .pop()
            .ok_or_else(|| Error::Invalid("a layer has no id".to_owned()))?;
        let layer = Layer { chain_id, diff_id: digest.clone(), bytes };
        let blob = Descriptor {
            media_type: manifest::OCI_LAYER.to_owned(),
            digest,
            size,
            platform: None,
            annotations: Default::default(),
        };
        let made = Cached { layer, blob, created: now, used: crate::sys::now_nanos() };
        self.hold_cached(&made);
        let kept = made.clone();
        self.blocking(move || {
            store.adopt_blob(&kept.blob.digest, &archived)?;
            Ok(store.adopt_layer(&kept.layer, &upper)?)
        })
        .await?;
        Ok(made)
    }

    pub async fn remove(&self, ran: Ran) -> Result<()> {
        ran.sandbox.remove().await
    }

    /// Stores the image that a stage has become, under these names.
    pub async fn finish(&self, stage: &Stage, tags: Vec<String>) -> Result<ImageInfo> {
        let text = stage.config.text()?;
        let run = stage.config.run()?;
        let (store, layers, blobs) =
            (Arc::clone(&self.inner.store), stage.layers.clone(), stage.blobs.clone());
        let config = Digest::of(&text);
        self.lease.hold([config.clone()]);
        let manifest = Manifest {
            schema_version: 2,
            media_type: manifest::OCI_MANIFEST.to_owned(),
            config: Descriptor {
                media_type: manifest::OCI_CONFIG.to_owned(),
                digest: config.clone(),
                size: text.len() as u64,
                platform: None,
                annotations: Default::default(),
            },
            layers: blobs.into_iter().map(oci).collect(),
        };
        let manifest_text = serde_json::to_vec(&manifest).map_err(|error| image::Error::InvalidDocument {
            what: "manifest".to_owned(),
            reason: error.to_string(),
        })?;
        let digest = Digest::of(&manifest_text);
        self.lease.hold([digest.clone()]);
        let references = tags.iter().filter_map(|tag| tag.parse::<Reference>().ok());
        let record = Record {
            id: config,
            manifest: digest.clone(),
            digests: references.map(|reference| reference.with_digest(&digest)).collect(),
            tags: tags.into_iter().collect(),
            layers,
            blobs: manifest.layers.iter().map(|layer| layer.digest.clone()).collect(),
            user: run.user.clone(),
            volumes: run.volumes.keys().cloned().collect(),
            // No registry has it.
            pinned: true,
        };
        self.blocking(move || {
            store.put_blob(&text)?;
            store.put_blob(&manifest_text)?;
            Ok(store.add(record)?)
        })
        .await
    }
}

/// Layers of Docker's own kind, in the words of the manifest that we write.
fn oci(mut layer: Descriptor) -> Descriptor {
    if layer.media_type.starts_with("application/vnd.docker.") {
        let compression = if layer.media_type.ends_with("gzip") { "+gzip" } else { "" };
        layer.media_type = format!("{}{compression}", manifest::OCI_LAYER);
    }
    layer
}

/// Archives an upper directory: digest, size, and bytes of its files.
fn pack(upper: &Path, path: &Path) -> Result<(Digest, u64, u64)> {
    let file = std::fs::File::create(path).map_err(io_error(format!("create {}", path.display())))?;
    let mut hashing = Hashing::new(std::io::BufWriter::with_capacity(1 << 20, file));
    let bytes = changes::archive(upper, &mut hashing).map_err(io_error("archive what a step changed"))?;
    let (writer, digest, size) = hashing.finish();
    writer.into_inner().map_err(|error| io_error("archive what a step changed")(error.into_error()))?;
    Ok((digest, size, bytes))
}

/// An empty file or directory that only a mount needed.
fn remove_stub(path: &Path) -> std::io::Result<()> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    let removed = if metadata.is_dir() {
        std::fs::remove_dir(path)
    } else if metadata.is_file() && metadata.len() == 0 {
        std::fs::remove_file(path)
    } else {
        return Ok(());
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other,
    }
}

fn sandbox(directory: &Path, network: Network) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: "build".to_owned(),
            namespace: String::new(),
            // No pod's: what a dead agent leaves is removed as a pod that nobody knows.
            uid: format!("build-{}", directory.display()),
            attempt: 0,
        },
        hostname: "build".to_owned(),
        log_directory: directory.to_owned(),
        namespaces: Namespaces {
            network: if network == Network::Host { NamespaceMode::Node } else { NamespaceMode::Pod },
            pid: NamespaceMode::Container,
            ..Namespaces::default()
        },
        cgroup_parent: CGROUP.to_owned(),
        ..SandboxConfig::default()
    }
}

fn container(step: &Run, directory: &Path) -> ContainerConfig {
    let paths = |list: &[&str]| list.iter().map(|path| (*path).to_owned()).collect();
    let (command, args) = step.command.split_at(step.command.len().min(1));
    let hosts = Path::new("/etc/hosts");
    let hosts = hosts.exists().then(|| Mount {
        container_path: "/etc/hosts".to_owned(),
        host_path: hosts.to_owned(),
        readonly: true,
        ..Mount::default()
    });
    ContainerConfig {
        metadata: ContainerMetadata { name: "build".to_owned(), attempt: 0 },
        image: directory.display().to_string(),
        command: command.to_vec(),
        args: args.to_vec(),
        env: step.env.clone(),
        mounts: hosts.filter(|_| step.network == Network::Host).into_iter().collect(),
        security: SecurityContext {
            namespaces: Namespaces { pid: NamespaceMode::Container, ..Namespaces::default() },
            seccomp: Some(Profile::RuntimeDefault),
            masked_paths: paths(&MASKED),
            readonly_paths: paths(&READ_ONLY),
            ..SecurityContext::default()
        },
        ..ContainerConfig::default()
    }
}

/// A container's log, as lines of what it wrote.
struct Lines<'a> {
    progress: &'a Progress,
    pending: Vec<u8>,
}

impl Lines<'_> {
    /// Reads for ever: the pipe has no end as long as we hold it.
    async fn read(&mut self, pipe: &pipe::Receiver) -> std::io::Result<()> {
        loop {
            pipe.readable().await?;
            self.rest(pipe)?;
        }
    }

    /// What is there now.
    fn rest(&mut self, pipe: &pipe::Receiver) -> std::io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match pipe.try_read(&mut buffer) {
                Ok(count) => self.take(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, data: &[u8]) {
        self.pending.extend_from_slice(data);
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            // `time stream tag content`.
            let text = String::from_utf8_lossy(&line);
            let content = text.trim_end_matches('\n').splitn(4, ' ').nth(3).unwrap_or_default();
            // Whoever asked may have hung up.
            let _unheard = self.progress.send(content.to_owned());
        }
    }
}

impl From<image::reference::Error> for Error {
    fn from(error: image::reference::Error) -> Self {
        Error::Invalid(error.to_string())
    }
}

impl From<crate::spec::Error> for Error {
    fn from(error: crate::spec::Error) -> Self {
        Error::Runtime(error.into())
    }
}

impl Inner {
    /// Builds an image; one at a time would be too few, and builds do not disturb each other.
    pub async fn build(
        self: &Arc<Self>,
        request: &crate::build::Request,
        progress: &Progress,
    ) -> crate::cri::Result<ImageInfo> {
        let builder = Builder::new(self);
        let built = crate::build::build(&builder, request, progress).await;
        built.map_err(|error| match error {
            Error::Invalid(message) => crate::cri::Error::Invalid(message),
            other => failed("build image")(other),
        })
    }
}
