//! Jobs: pods that run to completion, counted exactly once each.
//!
//! Every pod of a Job carries a finalizer. A pod that ended is first written into the Job's status as not yet
//! counted, then loses its finalizer, and is counted when it has been seen without: a crash at any point neither
//! forgets it nor counts it twice.
//!
//! [`indexes`] are sets of completion indexes, [`verdict`] what an ended pod means, [`tally`] the counting,
//! [`finish`] whether the Job is over, [`manage`] how many pods should run, [`sync`] doing it.

mod finish;
mod indexes;
mod manage;
mod sync;
mod tally;
mod verdict;

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use knarr_client::{
    Cached, Change, ObjectKey, SharedInformer, WorkQueue, expectations::Expectations, object::controller_of,
};
use parking_lot::Mutex;

use self::sync::Sync;
use crate::{
    Context,
    pods::{self, control::PodControl},
};

const COMPONENT: &str = "job-controller";
const WORKERS: usize = 5;
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("job");
    let expectations = Arc::new(Expectations::new());
    let jobs = wiring.expectant_root::<Job>(&expectations);
    let pods = wiring.cache::<Pod>();
    pods::index::by_controller(&pods);
    let follower =
        Follower { jobs: jobs.clone(), queue: wiring.queue(), expectations: Arc::clone(&expectations) };
    pods.subscribe(move |change| follower.follow(&change)).forever();
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
    wiring.run(WORKERS, sync)
}

/// Whether a Job is over, one way or the other.
pub(crate) fn is_finished(job: &Job) -> bool {
    finish::condition(job, "Complete").or(finish::condition(job, "Failed")).is_some()
}

/// Maps changes of pods to the Jobs they are of.
struct Follower {
    jobs: SharedInformer<Job>,
    queue: Arc<WorkQueue<ObjectKey>>,
    expectations: Arc<Expectations>,
}

impl Follower {
    fn follow(&self, change: &Change<'_, Pod>) {
        let pod = change.object();
        let Some(key) = self.owner(pod) else { return };
        let going = pod.metadata.deletion_timestamp.is_some() || matches!(change, Change::Deleted { .. });
        if going {
            self.expectations.deletion_observed(&key, pod.uid());
        } else if matches!(change, Change::Added(_)) {
            self.expectations.creation_observed(&key);
        }
        self.queue.add(key);
    }

    fn owner(&self, pod: &Pod) -> Option<ObjectKey> {
        let reference = controller_of(&pod.metadata).filter(|reference| reference.kind == "Job")?;
        let job = self.jobs.get(pod.namespace(), &reference.name)?;
        (job.uid() == reference.uid).then(|| ObjectKey::of(&*job))
    }
}
