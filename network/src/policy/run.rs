//! The policy task: plans anew when something it depends on changed.

use std::sync::Arc;
use std::time::Duration;

use knarr_client::informer::Subscription;
use knarr_client::{Change, InformerFactory, SharedInformer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::objects::{NetworkPolicy, Pod};
use super::plan::{Plan, World};
use super::table::{Error, Tables};
use crate::config::Config;
use crate::objects::Namespace;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Network policies on one node.
pub struct Policies {
    tables: Tables,
    node: String,
    informers: InformerFactory,
    policies: SharedInformer<NetworkPolicy>,
    wake: Arc<Notify>,
    /// What is in the kernel.
    applied: Option<Plan>,
}

/// What is watched only once there is a policy: all pods and namespaces.
struct Watched {
    pods: SharedInformer<Pod>,
    namespaces: SharedInformer<Namespace>,
    _handlers: [Subscription; 2],
}

impl Policies {
    /// # Errors
    /// The process may not use nftables, or the namespace is not there.
    pub fn build(config: &Config, informers: &InformerFactory) -> Result<Self, Error> {
        Ok(Self {
            tables: Tables::open(config)?,
            node: config.node_name.clone(),
            policies: informers.select(NetworkPolicy::selection()),
            informers: informers.clone(),
            wake: Arc::default(),
            applied: None,
        })
    }

    /// Runs until `shutdown`; the rules stay in force.
    pub async fn run(mut self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    /// Removes the rules of a cluster from the node.
    pub async fn destroy(config: &Config) -> Result<(), Error> {
        Tables::open(config)?.destroy().await
    }

    async fn follow(&mut self) {
        let _handler = wake_on(&self.policies, &self.wake);
        self.policies.synced().await;
        let mut watched = None;
        let mut retry = FIRST_RETRY;
        loop {
            if watched.is_none() && !self.policies.is_empty() {
                watched = Some(self.watch().await);
            }
            match self.sync(watched.as_ref()).await {
                Ok(()) => {
                    retry = FIRST_RETRY;
                    self.wake.notified().await;
                }
                Err(error) => {
                    tracing::error!(%error, ?retry, "network policies are not as they should be, trying again");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    async fn watch(&self) -> Watched {
        let pods = self.informers.select::<Pod>(Pod::selection());
        let namespaces = self.informers.select::<Namespace>(Namespace::selection());
        let handlers = [wake_on(&pods, &self.wake), wake_on(&namespaces, &self.wake)];
        pods.synced().await;
        namespaces.synced().await;
        Watched { pods, namespaces, _handlers: handlers }
    }

    async fn sync(&mut self, watched: Option<&Watched>) -> Result<(), Error> {
        let plan = watched.map_or_else(Plan::new, |watched| {
            let policies = self.policies.list();
            let (pods, namespaces) = (watched.pods.list(), watched.namespaces.list());
            World { policies: &policies, pods: &pods, namespaces: &namespaces, node: &self.node }.plan()
        });
        if self.applied.as_ref() == Some(&plan) {
            return Ok(());
        }
        self.applied = None;
        self.tables.apply(&plan).await?;
        self.applied = Some(plan);
        Ok(())
    }
}

fn wake_on<K: knarr_client::Cached>(informer: &SharedInformer<K>, wake: &Arc<Notify>) -> Subscription {
    let wake = Arc::clone(wake);
    informer.subscribe(move |_: Change<'_, K>| wake.notify_one())
}
