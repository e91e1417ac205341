//! CronJobs: Jobs made on a schedule.
//!
//! [`schedule`] reads schedules and finds their times, [`plan`] decides whether a Job is due, [`sync`] makes it and
//! keeps the history short.

mod plan;
mod schedule;
mod sync;

use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use knarr_client::{Cached, ObjectKey, WorkQueue, object::controller_of};

use self::sync::Sync;
use crate::{Context, context::follow};

const COMPONENT: &str = "cronjob-controller";
const WORKERS: usize = 5;
const BY_CONTROLLER: &str = "controller";

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (crons, jobs) = (context.informers.informer::<CronJob>(), context.informers.informer::<Job>());
    jobs.add_index(BY_CONTROLLER, |job| {
        controller_of(&job.metadata).map(|owner| owner.uid.clone()).into_iter().collect()
    });
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    follow(&crons, &queue);
    {
        let queue = Arc::clone(&queue);
        jobs.subscribe(move |change| {
            let job = change.object();
            if let Some(owner) = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                queue.add(ObjectKey::new(job.namespace(), owner.name.as_str()));
            }
        })
        .forever();
    }
    let sync = Arc::new(Sync {
        crons: crons.clone(),
        jobs: jobs.clone(),
        recorder: context.recorder(COMPONENT),
        client: context.client.clone(),
        clock: Arc::clone(&context.clock),
    });
    context.work(COMPONENT, WORKERS, queue, sync, async move {
        tokio::join!(crons.synced(), jobs.synced());
    })
}
