//! The task that follows Node objects.

use std::sync::Arc;
use std::time::Duration;

use knarr_client::{Change, InformerFactory, SharedInformer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::plan::{self, Node, Peers};
use super::routes::{Error, Table};
use crate::config::Config;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Routes to the pods of other nodes.
pub struct Routes {
    table: Table,
    node: String,
    nodes: SharedInformer<Node>,
}

impl Routes {
    /// # Errors
    /// The node's network namespace is not there.
    pub fn build(config: &Config, informers: &InformerFactory) -> Result<Self, Error> {
        let nodes = informers.select(Node::selection());
        Ok(Self { table: Table::open(config)?, node: config.node_name.clone(), nodes })
    }

    /// Runs until `shutdown`; the routes stay.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    /// Removes the routes and the tunnel of a cluster from the node.
    pub async fn destroy(config: &Config) -> Result<(), Error> {
        Table::open(config)?.destroy().await
    }

    async fn follow(&self) {
        let wake = Arc::new(Notify::new());
        let changed = Arc::clone(&wake);
        let _handler = self.nodes.subscribe(move |_: Change<'_, Node>| changed.notify_one());
        self.nodes.synced().await;
        let mut applied: Option<Peers> = None;
        let mut retry = FIRST_RETRY;
        loop {
            let wanted = plan::peers(&self.nodes.list(), &self.node);
            // Heartbeats change Nodes all the time, their routes hardly ever.
            if applied.as_ref() != Some(&wanted) {
                if let Err(error) = self.table.apply(&wanted).await {
                    tracing::error!(%error, ?retry, "routes to other nodes are not as they should be");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                    continue;
                }
                (applied, retry) = (Some(wanted), FIRST_RETRY);
            }
            wake.notified().await;
        }
    }
}
