//! Pod sandboxes: pinned namespaces and the files every container of the pod sees. No process, unless the pod
//! shares its process namespace.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::error::{blocking_cri, failed};
use super::namespaces::{self, Kind};
use super::snapshot::unmount;
use super::state::{self, Inner, write_record};
use crate::cri::*;
use crate::shim::protocol::ProcessId;
use crate::shim::{launch, stage};
use crate::spec::{NamespacePaths, PidNamespace, SandboxMount};

/// `<root>/sandboxes/<id>.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: SandboxId,
    pub config: SandboxConfig,
    pub created_at: UnixNanos,
    pub boot_id: String,
    pub stopped: bool,
    /// Process 1 of a shared process namespace.
    pub pause: Option<ProcessId>,
}

/// The user namespace of a pod that does not use the host's.
#[derive(Debug, Clone)]
pub struct PodUsers {
    /// Where it is pinned.
    pub namespace: PathBuf,
    pub ids: IdMapping,
}

impl PodUsers {
    /// What the shim of a container in `directory` is told; changes the spec accordingly.
    pub fn launch(
        self,
        oci: &mut serde_json::Value,
        directory: &Path,
        unmapped: &[PathBuf],
    ) -> launch::Users {
        let sources = stage::redirect(oci, directory, unmapped);
        launch::Users { namespace: self.namespace, host_id: self.ids.host_id, sources }
    }
}

#[derive(Debug)]
pub struct Sandbox {
    pub record: SandboxRecord,
    directory: PathBuf,
    same_boot: bool,
    stopped: AtomicBool,
}

impl Sandbox {
    fn new(inner: &Inner, record: SandboxRecord) -> Self {
        Sandbox {
            directory: inner.config.state.join("sandboxes").join(&record.id),
            same_boot: record.boot_id == inner.boot_id,
            stopped: AtomicBool::new(record.stopped),
            record,
        }
    }

    /// One that an earlier process made.
    pub fn found(inner: &Inner, record: SandboxRecord) -> Self {
        Sandbox::new(inner, record)
    }

    pub fn id(&self) -> &str {
        &self.record.id
    }

    fn kinds(&self) -> Vec<Kind> {
        let namespaces = &self.record.config.namespaces;
        let mut kinds = Vec::new();
        if namespaces.network != NamespaceMode::Node {
            // A pod on the node's network has the node's name too.
            kinds.extend([Kind::Network, Kind::Uts]);
        }
        if namespaces.ipc != NamespaceMode::Node {
            kinds.push(Kind::Ipc);
        }
        if namespaces.user.is_some() {
            kinds.push(Kind::User);
        }
        kinds
    }

    pub fn pin(&self, kind: Kind) -> Option<PathBuf> {
        self.kinds().contains(&kind).then(|| self.directory.join(kind.name()))
    }

    fn state(&self) -> SandboxState {
        let whole = || {
            self.kinds().into_iter().filter_map(|kind| self.pin(kind)).all(|pin| namespaces::is_pinned(&pin))
                && match self.record.pause {
                    Some(pause) => pause.is_alive(),
                    // An agent that died before it wrote process 1 down leaves a sandbox without.
                    None => self.record.config.namespaces.pid != NamespaceMode::Pod,
                }
        };
        if self.same_boot && !self.stopped.load(Ordering::Acquire) && whole() {
            SandboxState::Ready
        } else {
            SandboxState::NotReady
        }
    }

    pub fn status(&self) -> SandboxStatus {
        SandboxStatus {
            id: self.record.id.clone(),
            metadata: self.record.config.metadata.clone(),
            state: self.state(),
            created_at: self.record.created_at,
            netns: self.pin(Kind::Network),
            ips: Vec::new(),
            labels: self.record.config.labels.clone(),
            annotations: self.record.config.annotations.clone(),
        }
    }

    /// What a container of this pod joins.
    pub fn namespaces(&self, target: PidNamespace) -> NamespacePaths {
        NamespacePaths {
            network: self.pin(Kind::Network),
            ipc: self.pin(Kind::Ipc),
            uts: self.pin(Kind::Uts),
            user: self.pin(Kind::User),
            pid: target,
        }
    }

    /// The pod's own user namespace, if it has one.
    pub fn users(&self) -> Option<PodUsers> {
        let (namespace, ids) = (self.pin(Kind::User)?, self.record.config.namespaces.user?);
        Some(PodUsers { namespace, ids })
    }

    /// Files of the pod that its containers see.
    pub fn mounts(&self) -> Vec<SandboxMount> {
        vec![
            SandboxMount { source: self.shm(), destination: "/dev/shm" },
            SandboxMount { source: self.directory.join("resolv.conf"), destination: "/etc/resolv.conf" },
            SandboxMount { source: self.directory.join("hostname"), destination: "/etc/hostname" },
        ]
    }

    /// The pod's shared memory.
    pub fn shm(&self) -> PathBuf {
        match self.record.config.namespaces.ipc {
            NamespaceMode::Node => PathBuf::from("/dev/shm"),
            _ => self.directory.join("shm"),
        }
    }

    /// The name containers see.
    pub fn hostname(&self) -> String {
        std::fs::read_to_string(self.directory.join("hostname")).unwrap_or_default().trim().to_owned()
    }

    fn build(&self) -> io::Result<()> {
        state::create_private(&self.directory)?;
        let config = &self.record.config;
        let node_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let on_node = config.namespaces.network == NamespaceMode::Node;
        let hostname = if on_node || config.hostname.is_empty() { &node_name } else { &config.hostname };
        write_file(&self.directory.join("hostname"), &format!("{hostname}\n"))?;
        write_file(&self.directory.join("resolv.conf"), &resolv_conf(config.dns.as_ref())?)?;
        if config.namespaces.ipc != NamespaceMode::Node {
            mount_shm(&self.directory.join("shm"), config.namespaces.user.map_or(0, |ids| ids.host_id))?;
        }
        let plan = namespaces::Plan {
            directory: self.directory.clone(),
            kinds: self.kinds(),
            users: config.namespaces.user,
            hostname: hostname.clone(),
            sysctls: config.sysctls.clone().into_iter().collect(),
        };
        plan.pin()
    }

    /// Releases namespaces; what is released already is fine.
    fn release(&self) -> io::Result<()> {
        [Kind::Network, Kind::Ipc, Kind::Uts, Kind::User]
            .into_iter()
            .try_for_each(|kind| namespaces::unpin(&self.directory.join(kind.name())))
    }

    fn clear(&self) -> io::Result<()> {
        self.release()?;
        unmount(&self.directory.join("shm"))?;
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Readable for every user of the container.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

/// As kubelets and containerd write it; without a configuration, the node's own file.
fn resolv_conf(dns: Option<&DnsConfig>) -> io::Result<String> {
    let Some(dns) = dns else {
        return match std::fs::read_to_string("/etc/resolv.conf") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    Ok(text)
}

/// `owner` is the pod's root.
fn mount_shm(target: &Path, owner: u32) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = CString::new(format!("mode=1777,size=65536k,uid={owner},gid={owner}"))?;
    Ok(rustix::mount::mount("shm", target, "tmpfs", flags, options.as_c_str())?)
}

impl Inner {
    fn sandbox_file(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(format!("{id}.json"))
    }

    pub fn pause_directory(&self, id: &str) -> PathBuf {
        self.config.root.join("sandboxes").join(format!("{id}.pause"))
    }

    pub async fn run_sandbox(self: &Arc<Self>, config: SandboxConfig) -> Result<SandboxStatus> {
        if !config.runtime_handler.is_empty() {
            return Err(Error::Invalid(format!("no runtime for {:?} is configured", config.runtime_handler)));
        }
        let inner = Arc::clone(self);
        let mut sandbox = blocking_cri("run sandbox", move || inner.make_sandbox(config)).await?;
        if sandbox.record.config.namespaces.pid == NamespaceMode::Pod {
            match self.start_pause(&sandbox).await {
                Ok(pause) => sandbox.record.pause = Some(pause),
                Err(error) => {
                    self.discard_sandbox(&sandbox).await?;
                    return Err(error);
                }
            }
            write_record(&self.sandbox_file(sandbox.id()), &sandbox.record)
                .map_err(failed(format!("record sandbox {}", sandbox.id())))?;
        }
        let status = sandbox.status();
        self.sandboxes.write().insert(sandbox.id().to_owned(), Arc::new(sandbox));
        Ok(status)
    }

    fn make_sandbox(&self, config: SandboxConfig) -> Result<Sandbox> {
        let id = state::new_id().map_err(failed("make an id"))?;
        let record = SandboxRecord {
            id,
            config,
            created_at: crate::sys::now_nanos(),
            boot_id: self.boot_id.clone(),
            stopped: false,
            pause: None,
        };
        let sandbox = Sandbox::new(self, record);
        let file = self.sandbox_file(sandbox.id());
        write_record(&file, &sandbox.record).map_err(failed(format!("record sandbox {}", sandbox.id())))?;
        if let Err(cause) = sandbox.build() {
            let name = &sandbox.record.config.metadata.name;
            let error = failed(format!("failed to create sandbox of pod {name:?}"))(cause);
            sandbox.clear().and_then(|()| std::fs::remove_file(&file)).map_err(failed("undo a sandbox"))?;
            return Err(error);
        }
        Ok(sandbox)
    }

    async fn discard_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        self.stop_pause(sandbox).await?;
        sandbox
            .clear()
            .and_then(|()| remove_if_there(&self.sandbox_file(sandbox.id())))
            .map_err(failed(format!("remove sandbox {}", sandbox.id())))
    }

    /// Stops every container of the pod and releases its namespaces. Not there is fine.
    pub async fn stop_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        for container in self.containers_of(Some(id)) {
            self.stop_container(&container.record.id, Duration::ZERO).await?;
        }
        self.stop_pause(&sandbox).await?;
        let was_stopped = sandbox.stopped.swap(true, Ordering::AcqRel);
        let record = SandboxRecord {
            id: sandbox.record.id.clone(),
            config: sandbox.record.config.clone(),
            created_at: sandbox.record.created_at,
            boot_id: sandbox.record.boot_id.clone(),
            stopped: true,
            pause: None,
        };
        let file = self.sandbox_file(id);
        let releasing = Arc::clone(&sandbox);
        blocking_cri("stop sandbox", move || {
            write_record(&file, &record)
                .and_then(|()| releasing.release())
                .map_err(failed(format!("stop sandbox {}", releasing.id())))
        })
        .await?;
        if !was_stopped {
            self.events.announce(ContainerEvent {
                kind: ContainerEventKind::SandboxStopped,
                sandbox_id: id.to_owned(),
                container_id: String::new(),
                pod_uid: sandbox.record.config.metadata.uid.clone(),
            });
        }
        Ok(())
    }

    /// Removes the pod's containers and everything of the sandbox. Not there is fine.
    pub async fn remove_sandbox(self: &Arc<Self>, id: &str) -> Result<()> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(id).await?;
        for container in self.containers_of(Some(id)) {
            self.remove_container(&container.record.id).await?;
        }
        self.discard_sandbox(&sandbox).await?;
        self.sandboxes.write().remove(id);
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_reads_as_upstream_writes_it() {
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".to_owned()],
            searches: vec!["a.svc.cluster.local".to_owned(), "svc.cluster.local".to_owned()],
            options: vec!["ndots:5".to_owned()],
        };
        assert_eq!(
            resolv_conf(Some(&dns)).expect("text"),
            "search a.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
    }
}
