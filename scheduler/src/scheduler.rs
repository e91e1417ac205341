//! The scheduler as a component: what it watches, and the task that decides.

mod intake;
mod worker;

use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::events::EventBroadcaster;
use knarr_client::{Client, InformerFactory};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bind::Binder;
use crate::config::Config;
use crate::volumes::VolumeBinder;
use intake::Informers;
use worker::Worker;

/// The scheduler, ready to run.
pub struct Scheduler {
    config: Config,
    informers: Informers,
    binder: Binder,
    random: SharedRandom,
}

impl Scheduler {
    /// Takes its informers from `informers` (call before they start) and writes with `client`. Events are signed
    /// with the name that pods know the scheduler by.
    pub fn build(
        config: Config,
        client: Client,
        informers: &InformerFactory,
        events: EventBroadcaster,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        let informers = Informers::of(informers);
        Self { config, informers, binder: Binder::new(client, events, clock), random }
    }

    /// Decides until `shutdown`; bindings under way then are finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let (sender, mailbox) = mpsc::unbounded_channel();
        let _subscriptions = self.informers.subscribe(&sender);
        let (changes, changed) = watch::channel(0);
        let claims = self.informers.claims.clone();
        let _claims = claims.subscribe(move |_| changes.send_modify(|changes| *changes += 1));
        let volumes = VolumeBinder { client: self.binder.client().clone(), claims, changed };
        if shutdown.run_until_cancelled(self.informers.synced()).await.is_none() {
            return;
        }
        let bindings = TaskTracker::new();
        let mut worker =
            Worker::new(self.config, self.binder, volumes, self.random, sender, bindings.clone());
        worker.run(mailbox, &shutdown).await;
        bindings.close();
        bindings.wait().await;
    }
}

#[cfg(test)]
mod tests;
