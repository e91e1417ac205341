//! Garbage collection: what has no owner left goes, and owners wait for what they own when asked to.
//!
//! ```text
//!   informers of every resource --> graph (who owns whom) --> queues --> delete | orphan
//! ```
//!
//! The graph is only a hint about what may be garbage; before anything is deleted the server is asked whether the
//! owners are really gone. An owner that is referred to and was never seen is in the graph as a virtual node
//! until it is seen or the server says that it is not there.

mod absent;
mod collect;
mod graph;
mod monitors;
mod orphan;
mod requests;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use knarr_client::{WorkQueue, runner};
use parking_lot::Mutex;

use self::{
    absent::AbsentOwners, collect::Collect, graph::Graph, monitors::Monitors, orphan::Orphan,
    requests::Requests,
};
use crate::Context;

const WORKERS: usize = 20;
/// How long the start waits for every cache; a resource that cannot be listed must not stop collection.
const FIRST_SYNC: Duration = Duration::from_secs(30);

type Uid = Arc<str>;

/// What needs a look, by uid.
#[derive(Default)]
struct Queues {
    delete: Arc<WorkQueue<Uid>>,
    orphan: Arc<WorkQueue<Uid>>,
}

struct Shared {
    graph: Mutex<Graph>,
    queues: Queues,
    absent: AbsentOwners,
}

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let shared = Arc::new(Shared {
        graph: Mutex::new(Graph::default()),
        queues: Queues::default(),
        absent: AbsentOwners::default(),
    });
    let requests = Requests { client: context.client.clone(), resources: context.resources.clone() };
    let recorder = context.recorder("garbage-collector-controller");
    let monitors = Monitors::new(Arc::clone(&shared), context.informers.clone(), recorder);
    run(context, shared, requests, monitors).boxed()
}

async fn run(context: Context, shared: Arc<Shared>, requests: Requests, mut monitors: Monitors) {
    let stop = context.shutdown.clone();
    let mut resources = context.resources.clone();
    let first = async {
        if resources.wait_for(|resources| resources.preferred().next().is_some()).await.is_ok() {
            monitors.follow(&resources.borrow_and_update().clone());
            monitors.synced(FIRST_SYNC).await;
        }
    };
    if stop.run_until_cancelled(first).await.is_none() {
        return;
    }
    let collect = Arc::new(Collect { shared: Arc::clone(&shared), requests: requests.clone() });
    let orphan = Arc::new(Orphan { shared: Arc::clone(&shared), requests });
    let following = stop.run_until_cancelled(async {
        while resources.changed().await.is_ok() {
            monitors.follow(&resources.borrow_and_update().clone());
        }
    });
    let deletions =
        runner::run("garbage-collector", WORKERS, Arc::clone(&shared.queues.delete), collect, stop.clone());
    let orphans =
        runner::run("garbage-orphaner", WORKERS, Arc::clone(&shared.queues.orphan), orphan, stop.clone());
    tokio::join!(following, deletions, orphans);
}
