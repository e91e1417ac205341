//! Removing Jobs some time after they ended.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use knarr_api::time::SharedClock;
use knarr_client::{Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer, error::is_not_found};
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};

use crate::{
    Context,
    error::{Error, Step},
    jobs::is_finished,
};

const WORKERS: usize = 5;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("ttl_jobs_to_delete");
    let jobs = wiring.cache::<Job>();
    wiring.on(&jobs, |change| {
        let job = change.object();
        let ends = ttl(job).is_some() && is_finished(job) && job.metadata.deletion_timestamp.is_none();
        ends.then(|| ObjectKey::of(&**job))
    });
    wiring.run(WORKERS, Sync { jobs, client: context.client, clock: context.clock })
}

struct Sync {
    jobs: SharedInformer<Job>,
    client: Client,
    clock: SharedClock,
}

fn ttl(job: &Job) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// How long the Job may still stay; `None` if it has not ended or may stay for ever.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let end = conditions
        .iter()
        .find(|end| ["Complete", "Failed"].contains(&end.type_.as_str()) && end.status == "True")?;
    let passed =
        Duration::try_from(now.duration_since(end.last_transition_time.as_ref()?.0)).unwrap_or_default();
    Some(ttl(job)?.saturating_sub(passed))
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let due = |job: &Job| left(job, self.clock.now());
        let Some(wait) = self.jobs.get_key(key).and_then(|job| due(&job)) else { return Ok(Action::Done) };
        if !wait.is_zero() {
            return Ok(Action::After(wait));
        }
        // The cache may be old, and somebody may have given the Job more time.
        let api = Api::<Job>::namespaced(self.client.clone(), &key.namespace);
        let Some(fresh) = api.get_opt(&key.name).await.step("get job", &key.name)? else {
            return Ok(Action::Done);
        };
        match due(&fresh) {
            None => return Ok(Action::Done),
            Some(wait) if !wait.is_zero() => return Ok(Action::After(wait)),
            Some(_) => {}
        }
        let this_state = Preconditions {
            uid: Some(fresh.uid().to_owned()),
            resource_version: Some(fresh.resource_version().to_owned()),
        };
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            preconditions: Some(this_state),
            ..DeleteParams::default()
        };
        match api.delete(&key.name, &parameters).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step("delete job", &key.name)?),
        }
        Ok(Action::Done)
    }
}
