//! Puts a pod's volumes in place and takes them away again.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use knarr_api::time::SharedClock;
use parking_lot::Mutex;

use super::ownership::Ownership;
use super::payload::{self, Payload};
use super::projected::Sources;
use super::token::Tokens;
use super::{
    Mounted, VolumeError, atomic, blocking, claim, config_map, csi, downward, empty_dir, host_path, mounts,
    projected, secret,
};
use crate::config::Config;
use crate::objects::Objects;
use crate::pod::spec;
use crate::resources::amount::List;

/// A volume that could not be put in place.
#[derive(Debug, thiserror::Error)]
#[error("{step} failed for volume \"{volume}\" : {source}")]
pub struct SetUpError {
    /// The volume's name in the pod.
    pub name: String,
    step: &'static str,
    /// What upstream calls the volume: a claim's is called by what it is bound to.
    volume: String,
    source: VolumeError,
}

impl SetUpError {
    fn new(name: &str, error: VolumeError) -> Self {
        let name = name.to_owned();
        match error {
            VolumeError::Step { step, volume, source } => Self { name, step, volume, source: *source },
            source => Self { volume: name.clone(), name, step: "MountVolume.SetUp", source },
        }
    }

    /// Nothing is wrong: others must attach the volume first.
    pub fn waits(&self) -> bool {
        matches!(self.source, VolumeError::NotAttached(_))
    }
}

/// By volume name.
pub type MountedVolumes = BTreeMap<String, Mounted>;

pub struct VolumeManager {
    config: Arc<Config>,
    client: kube::Client,
    objects: Arc<Objects>,
    pub tokens: Tokens,
    pub csi: csi::Csi,
    clock: SharedClock,
    node_memory: i64,
    /// What was put in place, by pod uid.
    mounted: Mutex<HashMap<String, MountedVolumes>>,
}

impl VolumeManager {
    pub fn new(
        config: Arc<Config>,
        client: kube::Client,
        objects: Arc<Objects>,
        tokens: Tokens,
        csi: csi::Csi,
        clock: SharedClock,
        node_memory: i64,
    ) -> Self {
        Self { config, client, objects, tokens, csi, clock, node_memory, mounted: Mutex::default() }
    }

    /// Puts in place what is not, and brings what comes from objects up to date. All errors are told.
    pub async fn set_up(&self, pod: &Pod, allocatable: &List) -> Result<MountedVolumes, Vec<SetUpError>> {
        let before = self.mounted.lock().get(spec::uid(pod)).cloned().unwrap_or_default();
        let (mut volumes, mut errors) = (MountedVolumes::new(), Vec::new());
        for volume in spec::spec(pod).volumes.iter().flatten() {
            // What does not change by itself is set up once.
            let again = follows_objects(volume) || self.csi.republish_due(spec::uid(pod), &volume.name);
            let settled = before.get(&volume.name).filter(|_| !again);
            let outcome = match settled {
                Some(mounted) => Ok(mounted.clone()),
                None => self.set_up_one(pod, volume, allocatable).await,
            };
            match outcome {
                Ok(mounted) => {
                    volumes.insert(volume.name.clone(), mounted);
                }
                Err(error) => errors.push(SetUpError::new(&volume.name, error)),
            }
        }
        self.mounted.lock().insert(spec::uid(pod).to_owned(), volumes.clone());
        if errors.is_empty() { Ok(volumes) } else { Err(errors) }
    }

    /// Where the pod's volumes are.
    pub fn of(&self, uid: &str) -> MountedVolumes {
        self.mounted.lock().get(uid).cloned().unwrap_or_default()
    }

    /// When something in the pod's volumes must be renewed though nobody touched an object.
    pub fn next_renewal(&self, uid: &str) -> Option<Timestamp> {
        self.tokens.next_renewal(uid).into_iter().chain(self.csi.next_republish(uid)).min()
    }

    /// Unmounts everything of the pod and removes its directory.
    pub async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        self.tokens.forget(uid);
        self.mounted.lock().remove(uid);
        if !self.config.host {
            return Ok(());
        }
        // What is mounted from volumes goes before the volumes. Termination messages stay until the pod's containers are
        // removed.
        self.remove_part(uid, "volume-subpaths").await?;
        self.csi.tear_down(uid).await?;
        self.remove_part(uid, "volumes").await
    }

    async fn remove_part(&self, uid: &str, part: &str) -> Result<(), VolumeError> {
        let dir = self.config.pod_dir(uid).join(part);
        let work = move || if dir.exists() { mounts::remove_tree(&dir) } else { Ok(()) };
        blocking("tear down volumes", work).await
    }

    async fn set_up_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        allocatable: &List,
    ) -> Result<Mounted, VolumeError> {
        let here = |path: PathBuf| Mounted::Path { path, read_only: false };
        let dir = |plugin: &str| self.config.volume_dir(spec::uid(pod), plugin, &volume.name);
        let owner = Ownership::of(pod);
        if let Some(source) = &volume.empty_dir {
            let (path, medium) = (dir(empty_dir::PLUGIN), empty_dir::medium(pod, source, self.node_memory)?);
            let at = path.clone();
            self.on_host("set up emptyDir", move || empty_dir::set_up(&at, &medium, &owner)).await?;
            return Ok(here(path));
        }
        if let Some(source) = &volume.host_path {
            let path = self.config.root().here(Path::new(&source.path));
            let kind = source.type_.clone().unwrap_or_default();
            let at = path.clone();
            self.on_host("check host path", move || host_path::set_up(&at, &kind)).await?;
            return Ok(here(path));
        }
        if let Some(source) = &volume.config_map {
            let files = config_map::payload(&self.objects, pod, source).await?;
            return self.show(dir(config_map::PLUGIN), files, owner, false).await;
        }
        if let Some(source) = &volume.secret {
            let files = secret::payload(&self.objects, pod, source).await?;
            return self.show(dir(secret::PLUGIN), files, owner, true).await;
        }
        if let Some(source) = &volume.downward_api {
            let mode = payload::mode(source.default_mode, 0o644);
            let files =
                downward::payload(pod, source.items.as_deref().unwrap_or_default(), mode, allocatable)?;
            return self.show(dir(downward::PLUGIN), files, owner, false).await;
        }
        if let Some(source) = &volume.projected {
            let sources =
                Sources { objects: &self.objects, tokens: &self.tokens, client: &self.client, allocatable };
            let files = projected::payload(sources, pod, source).await?;
            return self.show(dir(projected::PLUGIN), files, owner, true).await;
        }
        if let Some(source) = &volume.image {
            return Ok(Mounted::Image { reference: source.reference.clone().unwrap_or_default() });
        }
        if let Some(source) = &volume.csi {
            let wanted = csi::Wanted::ephemeral(pod, volume, source);
            return self.csi.set_up(pod, &volume.name, &wanted, &self.tokens).await;
        }
        if let Some((name, read_only)) = claim::claim_of(pod, volume) {
            let bound = claim::bound(&self.client, pod, volume, &name).await?;
            if let Some(source) = bound.spec.as_ref().and_then(|spec| spec.csi.as_ref()) {
                let wanted = csi::Wanted::persistent(&bound, source, read_only);
                return self.csi.set_up(pod, &volume.name, &wanted, &self.tokens).await;
            }
            return claim::set_up(&self.config, pod, bound, read_only).await;
        }
        Err(VolumeError::Invalid("no volume plugin matched".to_owned()))
    }

    /// Shows files in a directory; secret ones in memory only.
    async fn show(
        &self,
        path: PathBuf,
        files: Payload,
        owner: Ownership,
        in_memory: bool,
    ) -> Result<Mounted, VolumeError> {
        let (at, now) = (path.clone(), self.clock.now());
        self.on_host("write volume", move || {
            let medium = if in_memory { empty_dir::Medium::Memory(0) } else { empty_dir::Medium::Disk };
            empty_dir::set_up(&at, &medium, &owner)?;
            // Files of objects are the agent's to change, whoever may read them.
            atomic::write(&at, &files, &owner.read_only(true), now).map(drop)
        })
        .await?;
        Ok(Mounted::Path { path, read_only: true })
    }

    /// File work on a real machine; simulated nodes have no files.
    async fn on_host(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> Result<(), VolumeError> + Send + 'static,
    ) -> Result<(), VolumeError> {
        if self.config.host { blocking(doing, work).await } else { Ok(()) }
    }
}

fn follows_objects(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.projected.is_some()
        || volume.downward_api.is_some()
}
