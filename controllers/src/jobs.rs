//! Jobs: pods that run to completion, counted exactly once each.
//!
//! Every pod of a Job carries a finalizer. A pod that ended is first written into the Job's status as not yet
//! counted, then loses its finalizer, and is counted when it has been seen without: a crash at any point neither
//! forgets it nor counts it twice.
//!
//! [`indexes`] are sets of completion indexes, [`verdict`] what an ended pod means, [`tally`] the counting,
//! [`finish`] whether the Job is over, [`manage`] how many pods should run, [`sync`] doing it, [`finalizer`] what
//! holds ended pods, [`orphans`] letting go those that nobody counts any more.

mod finalizer;
mod finish;
mod indexes;
mod manage;
mod orphans;
mod sync;
mod tally;
mod verdict;

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use knarr_client::expectations::Expectations;
use parking_lot::Mutex;

use self::sync::Sync;
use crate::{
    Context,
    pods::{self, control::PodControl, follow::Follower},
};

const COMPONENT: &str = "job-controller";
const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("job");
    let expectations = Arc::new(Expectations::new());
    let jobs = wiring.expectant_root::<Job>(&expectations);
    let pods = wiring.cache::<Pod>();
    pods::index::by_controller(&pods);
    Follower { owners: jobs.clone(), queue: wiring.queue(), expectations: Some(Arc::clone(&expectations)) }
        .follow(&pods);
    let orphans = orphans::build(&context);
    let control = PodControl { client: context.client.clone(), recorder: context.recorder(COMPONENT) };
    let sync = Sync {
        jobs,
        pods,
        expectations,
        failures: Mutex::default(),
        control,
        client: context.client,
        clock: context.clock,
    };
    futures::future::join(wiring.run(WORKERS, sync), orphans).map(drop).boxed()
}

/// Whether a Job is over, one way or the other.
pub(crate) fn is_finished(job: &Job) -> bool {
    finish::condition(job, "Complete").or(finish::condition(job, "Failed")).is_some()
}
