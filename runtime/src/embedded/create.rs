//! Making and starting containers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::container::{Container, ContainerRecord, Phase};
use super::error::{blocking_cri, failed, not_found};
use super::sandbox::{PodUsers, Sandbox};
use super::snapshot::{self, Snapshot};
use super::spawn::{self, spawn};
use super::state::{self, Inner, write_json, write_record};
use crate::cri::*;
use crate::image::manifest::RunConfig;
use crate::image::{Layer, Record};
use crate::shim::launch::{self, Kind, Launch};
use crate::shim::protocol::{self, Exit, ProcessId, ShimFile, Started};
use crate::shim::stage;
use crate::spec::{self, Input, NamespacePaths, PidNamespace};

const DEFAULT_STOP_SIGNAL: &str = "SIGTERM";

/// What a container's root and process begin with.
pub struct Base {
    pub image_id: String,
    pub layers: Vec<Layer>,
    pub run: RunConfig,
}

impl Inner {
    pub async fn create_container(
        self: &Arc<Self>,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        self.create(sandbox, config, None).await
    }

    /// A container of layers that are no image.
    pub async fn create_from(
        self: &Arc<Self>,
        sandbox: &str,
        config: ContainerConfig,
        base: Base,
    ) -> Result<ContainerId> {
        self.create(sandbox, config, Some(base)).await
    }

    async fn create(
        self: &Arc<Self>,
        sandbox: &str,
        config: ContainerConfig,
        base: Option<Base>,
    ) -> Result<ContainerId> {
        let sandbox = self.sandbox(sandbox)?;
        let inner = Arc::clone(self);
        let container =
            blocking_cri("create container", move || inner.make_container(&sandbox, config, base)).await?;
        let id = container.record.id.clone();
        let container = Arc::new(container);
        self.containers.write().insert(id.clone(), Arc::clone(&container));
        self.announce(ContainerEventKind::Created, &container);
        Ok(id)
    }

    fn make_container(
        &self,
        sandbox: &Sandbox,
        config: ContainerConfig,
        base: Option<Base>,
    ) -> Result<Container> {
        let id = state::new_id().map_err(failed("make an id"))?;
        let directory = self.container_directory(&id);
        state::create_private(&directory).map_err(failed(format!("create {}", directory.display())))?;
        self.fill_container(&id, &directory, sandbox, config, base).inspect_err(|_| {
            // Half-made ones that cannot be removed now are at the next start.
            let undone = Snapshot::new(&directory).unmount().and_then(|()| std::fs::remove_dir_all(&directory));
            if let Err(error) = undone {
                tracing::warn!(directory = %directory.display(), %error, "cannot remove a half-made container");
            }
        })
    }

    fn fill_container(
        &self,
        id: &str,
        directory: &Path,
        sandbox: &Sandbox,
        config: ContainerConfig,
        base: Option<Base>,
    ) -> Result<Container> {
        let lease = self.store.lease();
        let Base { image_id, layers, run } = match base {
            Some(base) => base,
            None => self.base_of(&config.image)?,
        };
        lease.hold(layers.iter().map(|layer| layer.chain_id.clone()));
        let snapshot = Snapshot::new(directory);
        let users = sandbox.users();
        snapshot
            .mount(&self.store, &layers, users.as_ref())
            .map_err(failed(format!("mount the root of container {id}")))?;
        let volumes = self.mount_image_volumes(directory, &config, users.as_ref())?;
        let cgroup = format!("{}/{id}", sandbox.record.config.cgroup_parent.trim_end_matches('/'));
        let mut built = spec::build(&Input {
            config: &config,
            image: &run,
            rootfs: snapshot.rootfs(),
            namespaces: self.namespaces(sandbox, &config)?,
            hostname: &sandbox.hostname(),
            cgroup_path: self.cgroups.full_path(&cgroup).map_err(failed("place the container's cgroup"))?,
            unified_cgroups: self.cgroups.is_unified(),
            sandbox_mounts: sandbox.mounts(),
            image_volumes: volumes.iter().map(|volume| volume.as_ref().map(|v| v.files.clone())).collect(),
        })?;
        for warning in &built.warnings {
            tracing::warn!(container = id, "{warning}");
        }
        let stop_signal = [config.stop_signal.clone().unwrap_or_default(), run.stop_signal]
            .into_iter()
            .find(|signal| !signal.is_empty())
            .unwrap_or_else(|| DEFAULT_STOP_SIGNAL.to_owned());
        super::container::signal_number(&stop_signal)?;
        let mut process = built.process;
        process.seccomp = self.seccomp_filter(directory, &config, &process.capabilities)?;
        let user = LinuxUser {
            uid: process.uid.into(),
            gid: process.gid.into(),
            supplemental_groups: process.groups.iter().map(|gid| i64::from(*gid)).collect(),
        };
        let log_path = sandbox.record.config.log_directory.join(&config.log_path);
        let launch = Launch {
            id: id.to_owned(),
            kind: Kind::Container,
            log_path: (!config.log_path.as_os_str().is_empty()).then(|| log_path.clone()),
            tty: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            process,
            cgroups: self.cgroups.directories(&cgroup).map_err(failed("place the container's cgroup"))?,
            oom_events: self.cgroups.oom_events(&cgroup).map_err(failed("place the container's cgroup"))?,
            shim_cgroups: self.shim_cgroups.clone(),
            shared_pid_namespace: spec::shares_pid_namespace(&config.security.namespaces.pid),
            users: users.map(|users| {
                let images = volumes.iter().flatten().map(|volume| volume.files.clone());
                let unmapped: Vec<PathBuf> = images.chain([sandbox.shm()]).collect();
                users.launch(&mut built.oci, directory, &unmapped)
            }),
        };
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox_id: sandbox.record.id.clone(),
            pod_uid: sandbox.record.config.metadata.uid.clone(),
            created_at: crate::sys::now_nanos(),
            image_id,
            layers,
            image_mounts: volumes.iter().flatten().map(|volume| volume.mount.clone()).collect(),
            image_mount_layers: volumes.iter().flatten().flat_map(|volume| volume.layers.clone()).collect(),
            cgroup,
            user,
            stop_signal,
            log_path,
            config,
        };
        write_shim_files(directory, &built.oci, &launch)
            .and_then(|()| write_record(&directory.join("container.json"), &record))
            .map_err(failed(format!("record container {id}")))?;
        Ok(Container::new(self, record, Phase::Created))
    }

    fn base_of(&self, name: &str) -> Result<Base> {
        let image = self.image(name)?;
        let run = self.store.config(&image.id).map_err(failed(format!("read image {name}")))?.config;
        Ok(Base { image_id: image.id.to_string(), layers: image.layers, run })
    }

    fn image(&self, name: &str) -> Result<Record> {
        self.store.find(name).ok_or_else(|| not_found("image", name))
    }

    fn namespaces(&self, sandbox: &Sandbox, config: &ContainerConfig) -> Result<NamespacePaths> {
        let of = |pid: i32| PidNamespace::Join(PathBuf::from(format!("/proc/{pid}/ns/pid")));
        let pid = match &config.security.namespaces.pid {
            NamespaceMode::Container => PidNamespace::New,
            NamespaceMode::Node => PidNamespace::Node,
            NamespaceMode::Pod => sandbox.record.pause.map_or(PidNamespace::New, |pause| of(pause.pid)),
            NamespaceMode::Target(target) => match self.container(target)?.phase() {
                Phase::Running { pid, .. } => of(pid),
                _ => return Err(Error::Invalid(format!("target container {target} is not running"))),
            },
        };
        Ok(sandbox.namespaces(pid))
    }

    fn mount_image_volumes(
        &self,
        directory: &Path,
        config: &ContainerConfig,
        users: Option<&PodUsers>,
    ) -> Result<Vec<Option<ImageVolume>>> {
        let mut volumes = Vec::with_capacity(config.mounts.len());
        for (index, mount) in config.mounts.iter().enumerate() {
            let Some(name) = &mount.image else {
                volumes.push(None);
                continue;
            };
            let image = self.image(name)?;
            let target = directory.join(format!("image-{index}"));
            snapshot::mount_image(&self.store, &image.layers, &target, users)
                .map_err(failed(format!("mount image volume {name}")))?;
            let files = inside(&target, &mount.image_sub_path).map_err(|error| {
                Error::Invalid(format!("path {:?} of image volume {name}: {error}", mount.image_sub_path))
            })?;
            volumes.push(Some(ImageVolume { mount: target, files, layers: image.layers }));
        }
        Ok(volumes)
    }

    /// Starts a created container. The container is left as ended where that fails.
    pub async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let _turn = container.turn.lock().await;
        match container.phase() {
            Phase::Created => {}
            Phase::Running { .. } => return Ok(()),
            _ => return Err(Error::Invalid(format!("container {id} has ended"))),
        }
        let directory = self.container_directory(id);
        let inner = Arc::clone(self);
        let prepared = Arc::clone(&container);
        blocking_cri("start container", move || inner.ready_container(&prepared)).await?;
        let started = spawn(self, &directory).await;
        match started {
            Ok(Started::Running { .. }) => {
                // Whoever sees it run can also stop it and run commands in it.
                if let Err(error) = self.connect(&container).await {
                    tracing::warn!(container = id, %error, "cannot reach the shim");
                    self.resume(&container).await;
                }
                self.announce(ContainerEventKind::Started, &container);
                Ok(())
            }
            Ok(Started::Failed { message, .. }) => Err(self.start_failed(&container, &message)?),
            Err(error) => Err(self.start_failed(&container, &error.to_string())?),
        }
    }

    /// What a restart of the machine takes away: the mount, and the cgroup.
    fn ready_container(&self, container: &Container) -> Result<()> {
        let id = &container.record.id;
        let doing = || format!("prepare container {id}");
        let directory = self.container_directory(id);
        let users = self.sandbox(&container.record.sandbox_id)?.users();
        Snapshot::new(&directory)
            .mount(&self.store, &container.record.layers, users.as_ref())
            .map_err(failed(doing()))?;
        let resources = &container.record.config.resources;
        self.cgroups.apply(&container.record.cgroup, resources, false).map_err(failed(doing()))?;
        let rules = spec::devices::devices(&container.record.config)?.rules;
        self.cgroups.restrict_devices(&container.record.cgroup, &rules).map_err(failed(doing()))
    }

    /// Users know these words from containerd.
    fn start_failed(&self, container: &Container, cause: &str) -> Result<Error> {
        let message = format!(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create \
             failed: unable to start container process: error during container init: {cause}"
        );
        let exit = Exit {
            exit_code: 128,
            signal: 0,
            finished_at: crate::sys::now_nanos(),
            oom_killed: false,
            start_error: Some(message.clone()),
        };
        let directory = self.container_directory(&container.record.id);
        let written = write_json(&directory.join(protocol::EXIT_FILE), &exit);
        self.set_phase(container, Phase::Exited { started_at: 0, exit });
        written.map_err(failed("record a failed start"))?;
        self.cgroups.remove(&container.record.cgroup).map_err(failed("undo a failed start"))?;
        Ok(Error::Start { message, exit_code: 128 })
    }

    /// Starts process 1 of a shared process namespace.
    pub async fn start_pause(&self, sandbox: &Sandbox) -> Result<ProcessId> {
        let doing = || format!("start process 1 of sandbox {}", sandbox.id());
        let directory = self.pause_directory(sandbox.id());
        let cgroup = pause_cgroup(sandbox);
        let rootfs = directory.join("rootfs");
        state::create_private(&rootfs).map_err(failed(doing()))?;
        for inner in ["dev", "proc"] {
            std::fs::create_dir_all(rootfs.join(inner)).map_err(failed(doing()))?;
        }
        self.cgroups.create(&cgroup).map_err(failed(doing()))?;
        let cgroup_path = self.cgroups.full_path(&cgroup).map_err(failed(doing()))?;
        let mut oci = spec::pause(&sandbox.namespaces(PidNamespace::New), &rootfs, &cgroup_path);
        let users = sandbox.users();
        if users.is_some() {
            open_to_pod(&directory, &rootfs).map_err(failed(doing()))?;
        }
        let launch = Launch {
            id: sandbox.id().to_owned(),
            kind: Kind::Pause,
            log_path: None,
            tty: false,
            stdin: false,
            stdin_once: false,
            process: launch::Process {
                uid: 65535,
                gid: 65535,
                oom_score_adj: Some(-998),
                ..Default::default()
            },
            cgroups: self.cgroups.directories(&cgroup).map_err(failed(doing()))?,
            oom_events: None,
            shim_cgroups: self.shim_cgroups.clone(),
            shared_pid_namespace: true,
            users: users.map(|users| users.launch(&mut oci, &directory, &[])),
        };
        write_shim_files(&directory, &oci, &launch).map_err(failed(doing()))?;
        match spawn(self, &directory).await.map_err(failed(doing()))? {
            Started::Running { pid, .. } => ProcessId::of(pid)
                .ok_or_else(|| Error::Failed { doing: doing(), cause: "it ended at once".into() }),
            Started::Failed { message, .. } => Err(Error::Failed { doing: doing(), cause: message.into() }),
        }
    }

    /// Not there is fine.
    pub async fn stop_pause(&self, sandbox: &Sandbox) -> Result<()> {
        let directory = self.pause_directory(sandbox.id());
        if !directory.exists() {
            return Ok(());
        }
        spawn::settled(&directory).await;
        let alive = protocol::read_file::<ShimFile>(&directory, protocol::SHIM_FILE)
            .is_some_and(|shim| shim.boot_id == self.boot_id && shim.shim.is_alive());
        if alive && let Ok((client, _)) = super::client::Client::connect(&directory).await {
            client.dismiss().await.map_err(failed(format!("stop process 1 of sandbox {}", sandbox.id())))?;
        }
        self.cgroups.remove(&pause_cgroup(sandbox)).map_err(failed("remove the cgroup of process 1"))?;
        std::fs::remove_dir_all(&directory).map_err(failed(format!("remove {}", directory.display())))
    }

    /// `None`: no filter.
    fn seccomp_filter(
        &self,
        directory: &Path,
        config: &ContainerConfig,
        capabilities: &launch::Capabilities,
    ) -> Result<Option<PathBuf>> {
        let filter =
            spec::seccomp::filter(&config.security, capabilities.bounding, &self.config.seccomp_profiles)?;
        let Some(filter) = filter else { return Ok(None) };
        let path = directory.join("seccomp.bpf");
        std::fs::write(&path, &*filter).map_err(failed("write the seccomp filter"))?;
        Ok(Some(path))
    }
}

/// The pod's own root may come to the root of its process 1, and that may be mounted.
fn open_to_pod(directory: &Path, rootfs: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(directory.join(stage::DIRECTORY))?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711))?;
    std::fs::set_permissions(rootfs, std::fs::Permissions::from_mode(0o755))
}

fn pause_cgroup(sandbox: &Sandbox) -> String {
    format!("{}/{}", sandbox.record.config.cgroup_parent.trim_end_matches('/'), sandbox.id())
}

struct ImageVolume {
    mount: PathBuf,
    files: PathBuf,
    layers: Vec<crate::image::Layer>,
}

/// A path below `root` that no link leads out of.
fn inside(root: &Path, path: &str) -> std::io::Result<PathBuf> {
    use std::os::fd::{AsFd, AsRawFd};
    if path.is_empty() {
        return Ok(root.to_owned());
    }
    let directory = std::fs::File::open(root)?;
    let found = crate::sys::open_beneath(
        directory.as_fd(),
        Path::new(path),
        libc::O_PATH,
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
    )?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// The files a shim reads.
fn write_shim_files(directory: &Path, oci: &serde_json::Value, launch: &Launch) -> std::io::Result<()> {
    // Not synced: the record that makes them count is written after them, and synced.
    std::fs::write(directory.join("config.json"), serde_json::to_vec(oci)?)?;
    std::fs::write(directory.join(launch::FILE), serde_json::to_vec(launch)?)
}
