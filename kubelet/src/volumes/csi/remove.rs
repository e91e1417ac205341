//! Taking volumes away: from pods at once, from the node when no pod has them.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use super::data::{self, DevicePaths, Place};
use super::{Csi, PLUGIN, log};
use crate::csi::proto::Capability;
use crate::volumes::{VolumeError, blocking};

/// Before what could not be unstaged is tried again; a driver that comes back is not waited for.
const RETRY: Duration = Duration::from_secs(30);

impl Csi {
    /// Takes all volumes of the pod away from it. Fails when one could not be: it must be tried again.
    pub async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        self.republish.lock().retain(|(pod, _), _| pod != uid);
        let (root, pod_dir) = (self.root().to_owned(), self.config.pod_dir(uid));
        let places = blocking("find volumes", move || data::of_pod(&root, &pod_dir)).await?;
        let mut outcome = Ok(());
        for place in places {
            // One driver that is gone keeps no other from doing its work.
            outcome = outcome.and(self.unpublish(place).await);
        }
        if outcome.is_ok() {
            self.in_use.release(uid);
            self.unused.notify_one();
        }
        outcome
    }

    async fn unpublish(&self, place: Place) -> Result<(), VolumeError> {
        let data = &place.data;
        let lock = self.locks.of(&data.key());
        let _turn = lock.lock().await;
        let client = self.unpublisher(&data.driver_name)?;
        client
            .unpublish(&data.volume_handle, &place.target)
            .await
            .map_err(|error| log(format_args!("Unmounter.TearDownAt failed: {error}")))?;
        blocking("remove mount directory", move || match &place.link {
            None => data::remove_mount(&place.target, &place.directory),
            Some(link) => fs::remove_file(link).map_err(VolumeError::io("remove", link)),
        })
        .await
    }

    /// Unstages volumes that no pod here has any more, as they become so, until dropped.
    pub async fn keep_clean(&self) {
        let mut drivers = self.drivers.follow();
        loop {
            let left = match self.sweep().await {
                Ok(left) => left,
                Err(error) => {
                    tracing::warn!(%error, "cannot look for volumes that nobody uses");
                    true
                }
            };
            tokio::select! {
                () = self.unused.notified() => {}
                Ok(()) = drivers.changed() => {}
                () = tokio::time::sleep(RETRY), if left => {}
            }
        }
    }

    /// `true` when something could not be unstaged.
    async fn sweep(&self) -> Result<bool, VolumeError> {
        let (root, claims) = (self.root().to_owned(), self.in_use.claims());
        let (staged, used) =
            blocking("find volumes", move || Ok((data::staged(&root)?, data::used(&root)?))).await?;
        let mut kept: HashSet<String> = used.clone();
        let mut left = false;
        for place in staged {
            let key = place.data.key();
            if used.contains(&key) {
                continue;
            }
            if let Err(error) = self.unstage(&place).await {
                tracing::warn!(volume = key, %error, "cannot unstage a volume, will retry");
                kept.insert(key);
                left = true;
            }
        }
        let current = self.in_use.keep(claims, |name| {
            let key = name.strip_prefix(PLUGIN).and_then(|name| name.strip_prefix('/'));
            key.is_some_and(|key| kept.contains(key))
        });
        if !current {
            self.unused.notify_one();
        }
        Ok(left)
    }

    async fn unstage(&self, place: &Place) -> Result<(), VolumeError> {
        let (data, key) = (&place.data, place.data.key());
        let lock = self.locks.of(&key);
        let _turn = lock.lock().await;
        // A pod may have come for it since.
        let root = self.root().to_owned();
        if blocking("find volumes", move || data::used(&root)).await?.contains(&key) {
            return Ok(());
        }
        let failed = "attacher.UnmountDevice failed to create newCsiDriverClient";
        let client = self.driver(&data.driver_name, failed)?;
        let abilities = client.abilities().await.map_err(|error| {
            log(format_args!(
                "attacher.UnmountDevice failed to check whether STAGE_UNSTAGE_VOLUME set: {error}"
            ))
        })?;
        self.staged.lock().remove(&key);
        if abilities.has(Capability::StageUnstageVolume) {
            let unstaging = client.unstage(&data.volume_handle, &place.target).await;
            unstaging.map_err(|error| log(format_args!("attacher.UnmountDevice failed: {error}")))?;
        }
        let (root, place) = (self.root().to_owned(), place.clone());
        blocking("remove staging directory", move || {
            let device = DevicePaths::new(&root, &place.data.name);
            if device.data == place.directory {
                device.remove()
            } else {
                data::remove_mount(&place.target, &place.directory)
            }
        })
        .await
    }
}
