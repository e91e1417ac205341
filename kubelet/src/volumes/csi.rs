//! Volumes of storage drivers: those of claims, and those that live and die with their pod.
//!
//! ```text
//!   set up     (wait until attached) ── NodeStageVolume ──▶ node ── NodePublishVolume ──▶ pod
//!   taken away  pod ── NodeUnpublishVolume ──▶ node ── NodeUnstageVolume, when no pod here has it ──▶ (detached)
//! ```
//!
//! What must be undone is written beside every mount before it is made (`vol_data.json`, as upstream writes it), so that
//! an agent that was restarted, or another one, can undo it. Files tell which pods have a volume; memory only spares
//! asking twice.

mod attach;
mod block;
mod data;
mod driver;
mod locks;
mod publish;
mod remove;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use knarr_api::time::SharedClock;
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::attach::InUse;
use self::driver::Facts;
use self::locks::Locks;
use super::token::Tokens;
use super::{Mounted, VolumeError};
use crate::config::Config;
use crate::csi::client::Client;
use crate::csi::drivers::Drivers;
use crate::pod::spec;

pub use self::wanted::{Wanted, attachment_name};

/// Upstream's name of the plugin, in paths and names of volumes.
pub const PLUGIN: &str = "kubernetes.io/csi";
/// Drivers that ask for it are told of a running pod again this often.
const REPUBLISH_PERIOD: SignedDuration = SignedDuration::from_secs(60);

/// Upstream's way to say where an error is from.
fn log(message: impl std::fmt::Display) -> VolumeError {
    VolumeError::Invalid(format!("{PLUGIN}: {message}"))
}

pub struct Csi {
    config: Arc<Config>,
    client: kube::Client,
    clock: SharedClock,
    pub drivers: Arc<Drivers>,
    /// Attachable volumes that pods here have or wait for.
    pub in_use: InUse,
    locks: Locks,
    /// Volumes known to be staged, by key.
    staged: Mutex<HashSet<String>>,
    /// When volumes are to be published anew, by pod uid and volume name.
    republish: Mutex<HashMap<(String, String), Timestamp>>,
    /// A volume may have lost its last pod.
    unused: Notify,
}

impl Csi {
    /// `node_changed`: the node's status has something new to tell.
    pub fn new(
        config: Arc<Config>,
        client: kube::Client,
        clock: SharedClock,
        node_changed: Arc<Notify>,
    ) -> Self {
        Self {
            config,
            client,
            clock,
            drivers: Arc::default(),
            in_use: InUse::new(node_changed),
            locks: Locks::default(),
            staged: Mutex::default(),
            republish: Mutex::default(),
            unused: Notify::new(),
        }
    }

    /// Makes the volume usable for the pod. `volume` is its name in the pod.
    pub async fn set_up(
        &self,
        pod: &Pod,
        volume: &str,
        wanted: &Wanted,
        tokens: &Tokens,
    ) -> Result<Mounted, VolumeError> {
        if !self.config.host {
            return Ok(Mounted::Path { path: self.config.root_dir.clone(), read_only: wanted.read_only });
        }
        let facts = Facts::read(&self.client, &wanted.driver).await.map_err(log)?;
        let context = self.attached(pod, wanted, &facts).await?;
        // One change of a volume at a time, whichever pods it is for.
        let lock = self.locks.of(&wanted.key());
        let _turn = lock.lock().await;
        let mounted = if wanted.block {
            self.set_up_block(pod, wanted, &facts, context).await?
        } else {
            self.set_up_files(pod, wanted, &facts, context, tokens).await?
        };
        if facts.requires_republish() {
            let again = self.clock.now().checked_add(REPUBLISH_PERIOD).unwrap_or(Timestamp::MAX);
            self.republish.lock().insert((spec::uid(pod).to_owned(), volume.to_owned()), again);
        }
        Ok(mounted)
    }

    /// Whether the driver is to be told again of a volume that is in place.
    pub fn republish_due(&self, uid: &str, volume: &str) -> bool {
        let due = self.republish.lock().get(&(uid.to_owned(), volume.to_owned())).copied();
        due.is_some_and(|due| due <= self.clock.now())
    }

    /// When the first of the pod's volumes is to be published anew.
    pub fn next_republish(&self, uid: &str) -> Option<Timestamp> {
        self.republish.lock().iter().filter(|((pod, _), _)| pod == uid).map(|(_, due)| *due).min()
    }

    fn driver(&self, name: &str, failed: &str) -> Result<Client, VolumeError> {
        self.drivers.get(name).map(Client::new).map_err(|error| log(format_args!("{failed}: {error}")))
    }

    fn pod_dir(&self, pod: &Pod) -> std::path::PathBuf {
        self.config.pod_dir(spec::uid(pod))
    }

    fn root(&self) -> &Path {
        &self.config.root_dir
    }
}
