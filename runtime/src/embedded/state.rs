//! The runtime's state: what is in memory, and how it is found again in files.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustix::thread::UnshareFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::Config;
use super::container::Container;
use super::error::{blocking_cri, failed, not_found};
use super::events::Events;
use super::namespaces::Holder;
use super::sandbox::Sandbox;
use super::spawn;
use crate::cgroup::Cgroups;
use crate::cri::{HandlerFeatures, IdMapping, Result, RuntimeInfo};
use crate::image::{Puller, Store};

/// The cgroup of the shims themselves, below the prefix.
const SHIM_CGROUP: &str = "/shims";

pub struct Inner {
    pub config: Config,
    pub store: Arc<Store>,
    pub puller: Puller,
    pub cgroups: Cgroups,
    pub events: Events,
    pub boot_id: String,
    pub sandboxes: RwLock<HashMap<String, Arc<Sandbox>>>,
    pub containers: RwLock<HashMap<String, Arc<Container>>>,
    /// The shim's program on a mount that cannot be written, where the kernel can make one.
    pub shim_program: Option<OwnedFd>,
    pub shim_cgroups: Vec<PathBuf>,
    /// Pods can have users of their own.
    user_namespaces: bool,
}

impl Inner {
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        let inner = blocking_cri("open the runtime", move || Inner::load(config)).await?;
        let inner = Arc::new(inner);
        inner.find_again().await?;
        Ok(inner)
    }

    fn load(config: Config) -> Result<Self> {
        for directory in
            [config.root.join("containers"), config.root.join("sandboxes"), config.state.join("sandboxes")]
        {
            create_private(&directory).map_err(failed(format!("create {}", directory.display())))?;
        }
        let store =
            Store::open(config.root.clone(), config.image_limits).map_err(failed("open the image store"))?;
        let store = Arc::new(store);
        let cgroups = Cgroups::detect(&config.cgroup_prefix).map_err(failed("find cgroups"))?;
        let shim_cgroups =
            cgroups.shim_membership(SHIM_CGROUP).map_err(failed("create the shims' cgroup"))?;
        Ok(Inner {
            shim_program: spawn::protected_program(&config.shim_executable),
            puller: Puller::new(Arc::clone(&store), config.registries.clone()),
            store,
            cgroups,
            events: Events::new(),
            boot_id: crate::sys::boot_id().map_err(failed("read the boot id"))?,
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            shim_cgroups,
            user_namespaces: can_map_users(&config.root),
            config,
        })
    }

    /// Reads every record, and connects to every shim that lives.
    async fn find_again(self: &Arc<Self>) -> Result<()> {
        for path in entries(&self.config.root.join("sandboxes")).map_err(failed("list sandboxes"))? {
            // What an agent was writing when it was killed; the record itself, if any, is the one before.
            if path.extension().is_some_and(|extension| extension == "new") {
                std::fs::remove_file(&path).map_err(failed(format!("remove {}", path.display())))?;
            }
            if path.extension().is_some_and(|extension| extension == "json") {
                match read_json(&path) {
                    Ok(record) => {
                        let sandbox = Arc::new(Sandbox::found(self, record));
                        self.sandboxes.write().insert(sandbox.id().to_owned(), sandbox);
                    }
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "removing an unreadable sandbox record");
                        std::fs::remove_file(&path).map_err(failed(format!("remove {}", path.display())))?;
                    }
                }
            }
        }
        for directory in entries(&self.config.root.join("containers")).map_err(failed("list containers"))? {
            self.find_container(directory).await;
        }
        Ok(())
    }

    pub fn close(&self) {
        for container in self.containers.read().values() {
            container.disconnect();
        }
    }

    pub fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        self.sandboxes.read().get(id).cloned().ok_or_else(|| not_found("sandbox", id))
    }

    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.containers.read().get(id).cloned().ok_or_else(|| not_found("container", id))
    }

    pub fn containers_of(&self, sandbox: Option<&str>) -> Vec<Arc<Container>> {
        let containers = self.containers.read();
        let wanted = |container: &&Arc<Container>| sandbox.is_none_or(|id| container.record.sandbox_id == id);
        containers.values().filter(wanted).cloned().collect()
    }

    pub fn container_directory(&self, id: &str) -> PathBuf {
        self.config.root.join("containers").join(id)
    }

    pub fn info(&self) -> Result<RuntimeInfo> {
        let missing = self.cgroups.missing_controllers();
        let message = if missing.is_empty() {
            String::new()
        } else {
            format!(
                "cgroup controllers missing on this node, their limits are not enforced: {}",
                missing.join(", ")
            )
        };
        let features =
            HandlerFeatures { recursive_read_only_mounts: true, user_namespaces: self.user_namespaces };
        Ok(RuntimeInfo {
            name: "knarr".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: true,
            message,
            handlers: vec![(String::new(), features)],
        })
    }
}

/// Whether the kernel makes user namespaces, and shows layers' files with their ids.
fn can_map_users(root: &Path) -> bool {
    let some = IdMapping { host_id: 1 << 16, length: 1 << 16 };
    let attempt = || {
        let mount = crate::sys::detached_mount(root, false)?;
        Holder::new(UnshareFlags::empty(), some)?.can_map(std::os::fd::AsFd::as_fd(&mount))
    };
    attempt().inspect_err(|error| tracing::info!(%error, "pods cannot have users of their own here")).is_ok()
}

pub fn entries(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

pub fn read_json<T: DeserializeOwned>(path: &Path) -> std::io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

pub fn write_json<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    crate::sys::write_atomically(path, &serde_json::to_vec(value)?)
}

/// For what describes things of this boot: nothing of it is true after a crash of the machine, and syncing it would
/// be most of what a pod's start costs.
pub fn write_record<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    crate::sys::write_replacing(path, &serde_json::to_vec(value)?)
}

/// Directories of ours are nobody else's business.
pub fn create_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// 64 hex digits, as every runtime's ids are.
pub fn new_id() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(crate::image::digest::Digest::of(&bytes).hex().to_owned())
}
