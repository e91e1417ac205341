//! What every controller is given.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use ipnet::{IpNet, Ipv4Net};

use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::{
    Cached, Client, InformerFactory, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    events::{EventBroadcaster, EventRecorder},
    runner,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{TokenSigner, certificates::SigningAuthority, discovery::Resources};

/// Settings of the controllers, already checked.
#[derive(Clone)]
pub struct Config {
    /// Which controllers run: `*` for all, `name`, `-name`, as upstream's `--controllers`.
    pub controllers: Vec<String>,
    /// The certificates (PEM) that verify the API server, published to every namespace.
    pub root_ca: Option<String>,
    /// Signs the requests for certificates that were approved; without it nobody does.
    pub signing: Option<SigningAuthority>,
    /// Signs the tokens kept in Secrets; without it those stay empty.
    pub token_signer: Option<Arc<dyn TokenSigner>>,
    pub nodes: NodesConfig,
    /// How volumes on the nodes' own disks are removed; absent: there are none.
    pub local_storage: Option<LocalStorage>,
    /// Where the addresses of load balancers come from; without it a cloud must give them.
    pub load_balancer_range: Option<Ipv4Net>,
    /// Finished pods that are kept before the oldest are removed; zero keeps all.
    pub terminated_pod_threshold: usize,
}

/// What removes the files of a volume on a node's disk: a command in an image every node has.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    pub image: String,
    /// Gets the directory as its last argument.
    pub remove_command: Vec<String>,
}

/// Settings about nodes.
#[derive(Debug, Clone)]
pub struct NodesConfig {
    /// How long a node may be silent before it counts as unknown.
    pub monitor_grace: Duration,
    /// The same for a node that has never said anything.
    pub startup_grace: Duration,
    /// Nodes per second and zone that are tainted for eviction while most of the zone is healthy.
    pub eviction_rate: f64,
    /// The same while much of a large zone is unhealthy; a small zone gets none then.
    pub secondary_eviction_rate: f64,
    /// More nodes than these make a zone large.
    pub large_zone: usize,
    /// The share of unhealthy nodes from which a zone is disrupted.
    pub unhealthy_threshold: f64,
    /// Where the pods' addresses come from, and how large each node's part is, per family. Empty: nodes get none.
    pub pod_ranges: Vec<PodRange>,
}

/// A range that is cut into one part per node.
#[derive(Debug, Clone, Copy)]
pub struct PodRange {
    pub range: IpNet,
    /// The prefix length of a node's part.
    pub node_prefix: u8,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self {
            monitor_grace: Duration::from_secs(50),
            startup_grace: Duration::from_secs(60),
            eviction_rate: 0.1,
            secondary_eviction_rate: 0.01,
            large_zone: 50,
            unhealthy_threshold: 0.55,
            pod_ranges: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            controllers: vec!["*".to_owned()],
            root_ca: None,
            signing: None,
            token_signer: None,
            nodes: NodesConfig::default(),
            local_storage: None,
            load_balancer_range: None,
            terminated_pod_threshold: 12_500,
        }
    }
}

impl Config {
    /// Whether a controller is to run.
    pub fn runs(&self, name: &str) -> bool {
        let is = |entry: &String| entry == name;
        let is_off = |entry: &String| entry.strip_prefix('-') == Some(name);
        self.controllers.iter().any(is)
            || (self.controllers.iter().any(|entry| entry == "*") && !self.controllers.iter().any(is_off))
    }
}

/// One controller's view of the world.
#[derive(Clone)]
pub struct Context {
    /// Acts as the controller's own service account.
    pub client: Client,
    /// Shared by all controllers.
    pub informers: InformerFactory,
    /// What the server has; empty until it was first asked.
    pub(crate) resources: watch::Receiver<Arc<Resources>>,
    pub events: EventBroadcaster,
    pub clock: SharedClock,
    pub random: SharedRandom,
    pub config: Arc<Config>,
    pub shutdown: CancellationToken,
}

impl Context {
    /// A recorder of Events that signs as `component`.
    pub fn recorder(&self, component: &str) -> EventRecorder {
        self.events.recorder(component, None)
    }

    /// A controller's task: waits for its caches, then works on its queue until shutdown.
    pub(crate) fn work<R: Reconcile>(
        self,
        name: &'static str,
        workers: usize,
        queue: Arc<WorkQueue<R::Key>>,
        reconciler: Arc<R>,
        caches_full: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, ()> {
        async move {
            if self.shutdown.run_until_cancelled(caches_full).await.is_some() {
                runner::run(name, workers, queue, reconciler, self.shutdown).await;
            }
        }
        .boxed()
    }
}

/// Queues every object that changes, under its own key.
pub(crate) fn follow<K: Cached>(informer: &SharedInformer<K>, queue: &Arc<WorkQueue<ObjectKey>>) {
    let queue = Arc::clone(queue);
    informer.subscribe(move |change| queue.add(ObjectKey::of(&**change.object()))).forever();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_chosen_as_upstream_chooses() {
        let config = |list: &[&str]| Config {
            controllers: list.iter().map(|&entry| entry.to_owned()).collect(),
            ..Config::default()
        };
        assert!(config(&["*"]).runs("a"));
        assert!(!config(&["*", "-a"]).runs("a"));
        assert!(config(&["a"]).runs("a"));
        assert!(!config(&["b"]).runs("a"));
    }
}
