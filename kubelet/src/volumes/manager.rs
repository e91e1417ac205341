//! Puts a pod's volumes in place and takes them away again.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
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
    Mounted, VolumeError, atomic, blocking, claim, config_map, downward, empty_dir, host_path, mounts,
    projected, secret,
};
use crate::config::Config;
use crate::objects::Objects;
use crate::pod::spec;
use crate::resources::amount::List;

/// A volume that could not be put in place.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
pub struct SetUpError {
    pub volume: String,
    pub source: VolumeError,
}

/// By volume name.
pub type MountedVolumes = BTreeMap<String, Mounted>;

pub struct VolumeManager {
    config: Arc<Config>,
    client: kube::Client,
    objects: Arc<Objects>,
    pub tokens: Tokens,
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
        clock: SharedClock,
        node_memory: i64,
    ) -> Self {
        Self { config, client, objects, tokens, clock, node_memory, mounted: Mutex::default() }
    }

    /// Puts in place what is not, and brings what comes from objects up to date. All errors are told.
    pub async fn set_up(&self, pod: &Pod, allocatable: &List) -> Result<MountedVolumes, Vec<SetUpError>> {
        let before = self.mounted.lock().get(spec::uid(pod)).cloned().unwrap_or_default();
        let (mut volumes, mut errors) = (MountedVolumes::new(), Vec::new());
        for volume in spec::spec(pod).volumes.iter().flatten() {
            // What does not change by itself is set up once.
            let settled = before.get(&volume.name).filter(|_| !follows_objects(volume));
            let outcome = match settled {
                Some(mounted) => Ok(mounted.clone()),
                None => self.set_up_one(pod, volume, allocatable).await,
            };
            match outcome {
                Ok(mounted) => {
                    volumes.insert(volume.name.clone(), mounted);
                }
                Err(source) => errors.push(SetUpError { volume: volume.name.clone(), source }),
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
        self.tokens.next_renewal(uid)
    }

    /// Unmounts everything of the pod and removes its directory.
    pub async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        self.tokens.forget(uid);
        self.mounted.lock().remove(uid);
        if !self.config.host {
            return Ok(());
        }
        let pod_dir = self.config.pod_dir(uid);
        blocking("tear down volumes", move || {
            // Termination messages stay until the pod's containers are removed.
            for part in ["volume-subpaths", "volumes"] {
                let dir = pod_dir.join(part);
                if dir.exists() {
                    mounts::remove_tree(&dir)?;
                }
            }
            Ok(())
        })
        .await
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
            let (path, kind) = (PathBuf::from(&source.path), source.type_.clone().unwrap_or_default());
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
        if let Some((name, read_only)) = claim::claim_of(pod, volume) {
            return claim::set_up(
                &self.client,
                self.config.local_volumes_dir.as_deref(),
                pod,
                volume,
                &name,
                read_only,
            )
            .await;
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
