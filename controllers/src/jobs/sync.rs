//! One look at one Job.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec, JobStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_namespace_terminating, is_not_found},
    events::EventType,
    expectations::Expectations,
    ownership::{Claimer, selector, slow_start},
};
use kube::api::PostParams;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    finalizer::{self, FINALIZER, has_finalizer},
    finish::{self, Ending},
    manage::{self, Plan},
    tally::{self, Stage, Tally},
    verdict,
};
use crate::{
    error::{Error, Step},
    pods::{
        self,
        control::{PodControl, is_gone},
    },
};

const MANAGED_BY_US: &str = "kubernetes.io/job-controller";

pub(super) struct Sync {
    pub(super) jobs: SharedInformer<Job>,
    pub(super) pods: SharedInformer<Pod>,
    pub(super) expectations: Arc<Expectations>,
    /// By Job, how many pods failed in a row and when the last one was seen.
    pub(super) failures: Mutex<HashMap<ObjectKey, (u32, Instant)>>,
    pub(super) control: PodControl,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(job) = self.jobs.get_key(key) else {
            self.expectations.forget(key);
            self.failures.lock().remove(key);
            return Ok(Action::Done);
        };
        let spec = verdict::spec(&job);
        if super::is_finished(&job) || is_managed_elsewhere(&job) {
            self.failures.lock().remove(key);
            return Ok(Action::Done);
        }
        let trusted = self.expectations.satisfied(key);
        let pods = self.claim(&job, &spec).await?;
        let look = Look { key, job: &job, spec: &spec, pods: &pods, trusted };
        self.look(&look).await
    }
}

/// Whether another controller is to see to the Job.
pub(super) fn is_managed_elsewhere(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != MANAGED_BY_US)
}

/// What one look goes by.
struct Look<'a> {
    key: &'a ObjectKey,
    job: &'a Job,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    /// Whether the cache has everything we asked for.
    trusted: bool,
}

impl Sync {
    async fn claim(&self, job: &Job, spec: &JobSpec) -> Result<Vec<Arc<Pod>>, Error> {
        let selector = selector(&spec.selector.clone().unwrap_or_default())?;
        let mut candidates = pods::index::owned_by(&self.pods, job.uid());
        candidates.extend(pods::index::orphans_in(&self.pods, job.namespace()));
        Ok(Claimer::new(&self.client, job, &selector)
            .with_finalizers(&[FINALIZER])
            .claim_all(candidates)
            .await?)
    }

    async fn look(&self, look: &Look<'_>) -> Result<Action, Error> {
        let now = self.clock.now();
        let mut before = look.job.status.clone().unwrap_or_default();
        let suspended = look.spec.suspend.unwrap_or(false);
        if before.start_time.is_none() && !suspended {
            before.start_time = Some(Time(now));
        }
        let decided = finish::decided(look.job);
        let stage = match &decided {
            Some(ending) if ending.success => Stage::Succeeded,
            Some(_) => Stage::Failed,
            None if look.job.metadata.deletion_timestamp.is_some() => Stage::Failed,
            None => Stage::Running,
        };
        let mut tally = tally::count(look.spec, &before, look.pods, stage);
        let active = manage::active(look.pods);
        let terminating = look.pods.iter().filter(|pod| pods::is_terminating(pod)).count();
        let ending = decided.or_else(|| finish::decide(look.spec, &tally, look.pods, now));
        let ending = ending.or_else(|| completed(look.spec, &tally, active.len()));

        let (mut wait, mut outcome) = (None, Ok(()));
        if ending.is_some() {
            outcome = self.delete(look, &active, false).await;
        } else if look.trusted && look.job.metadata.deletion_timestamp.is_none() {
            let cooling = self.cooling(look.key, &tally);
            let plan = manage::plan(look.job, look.spec, &tally, &active, terminating, cooling, now);
            wait = plan.wait;
            outcome = self.carry_out(look, plan).await;
            self.note_suspension(look.job, &mut tally.status, suspended);
        }
        set_sizes(&mut tally.status, &active, terminating);
        let end = self.conclude(&mut tally, ending.as_ref(), look, active.len() + terminating);
        self.write(look, &tally, end.as_ref()).await?;
        self.release(&tally.release).await?;
        outcome?;
        let deadline = finish::time_left(look.spec, &tally.status, now).filter(|_| ending.is_none());
        Ok(wait.into_iter().chain(deadline).min().map_or(Action::Done, |wait| {
            // Written times have no fractions.
            Action::After(wait + Duration::from_secs(1))
        }))
    }

    /// Notes the decision, and the end itself once no pod is left and all are counted; the latter if it came now.
    fn conclude(
        &self,
        tally: &mut Tally,
        ending: Option<&Ending>,
        look: &Look<'_>,
        left: usize,
    ) -> Option<Ending> {
        let (ending, now) = (ending?, self.clock.now());
        finish::set(&mut tally.status, ending.decision(), true, &ending.reason, &ending.message, now);
        if left > 0 || !look.trusted || !tally.is_settled() || !tally.release.is_empty() {
            return None;
        }
        finish::set(&mut tally.status, ending.end(), true, &ending.reason, &ending.message, now);
        if ending.success {
            tally.status.completion_time = Some(Time(now));
        }
        Some(ending.clone())
    }

    fn note_suspension(&self, job: &Job, status: &mut JobStatus, suspended: bool) {
        let now = self.clock.now();
        let (reason, text) =
            if suspended { ("JobSuspended", "Job suspended") } else { ("JobResumed", "Job resumed") };
        if !finish::set(status, "Suspended", suspended, reason, text, now) {
            return;
        }
        let event = if suspended { "Suspended" } else { "Resumed" };
        self.control.recorder.event(job, EventType::Normal, event, text);
        status.start_time = (!suspended).then_some(Time(now));
    }

    /// How long no pod may be created because pods failed lately.
    fn cooling(&self, key: &ObjectKey, tally: &Tally) -> Duration {
        let failures = self.failures.lock();
        let (mut count, mut last) = failures.get(key).copied().unwrap_or((0, Instant::now()));
        if tally.newly_succeeded > 0 {
            count = 0;
        }
        if tally.newly_failed > 0 {
            count += u32::try_from(tally.newly_failed).unwrap_or(u32::MAX);
            last = Instant::now();
        }
        manage::backoff(count).saturating_sub(last.elapsed())
    }

    /// Remembers what `cooling` goes by, once the status that tells of the same pods is written.
    fn remember(&self, key: &ObjectKey, tally: &Tally) {
        if tally.newly_succeeded == 0 && tally.newly_failed == 0 {
            return;
        }
        let mut failures = self.failures.lock();
        let entry = failures.entry(key.clone()).or_insert((0, Instant::now()));
        let before = if tally.newly_succeeded > 0 { 0 } else { entry.0 };
        *entry =
            (before.saturating_add(u32::try_from(tally.newly_failed).unwrap_or(u32::MAX)), Instant::now());
    }

    async fn write(&self, look: &Look<'_>, tally: &Tally, end: Option<&Ending>) -> Result<(), Error> {
        if look.job.status.as_ref() == Some(&tally.status) {
            return Ok(());
        }
        let mut updated = look.job.clone();
        updated.status = Some(tally.status.clone());
        let api = Api::<Job>::namespaced(self.client.clone(), look.job.namespace());
        match api.replace_status(look.job.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            other => drop(other.step("update status of job", look.job.name())?),
        }
        self.remember(look.key, tally);
        if let Some(end) = end {
            let recorder = &self.control.recorder;
            if end.success {
                recorder.event(look.job, EventType::Normal, "Completed", "Job completed");
            } else {
                recorder.event(look.job, EventType::Warning, &end.reason, end.message.clone());
            }
        }
        Ok(())
    }

    /// Takes the finalizer off pods whose end has been written down.
    async fn release(&self, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let all =
            pods.iter().filter(|pod| has_finalizer(pod)).map(|pod| finalizer::remove(&self.client, pod));
        futures::future::join_all(all).await.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }

    async fn carry_out(&self, look: &Look<'_>, plan: Plan) -> Result<(), Error> {
        if !plan.delete.is_empty() {
            return self.delete(look, &plan.delete, true).await;
        }
        if plan.create.is_empty() {
            return Ok(());
        }
        let count = plan.create.len();
        self.expectations.expect_creations(look.key, count);
        let (created, _, failure) = slow_start(count, |index| {
            let pod = &plan.create[index];
            async move {
                match self.control.create(look.job, pod).await {
                    Err(error) if error.answer().is_some_and(is_namespace_terminating) => Ok(()),
                    other => other.map(drop),
                }
            }
        })
        .await;
        self.expectations.creations_observed(look.key, count - created);
        failure.map_or(Ok(()), Err)
    }

    /// Deletes pods. `unheld`: they are not to be counted, so they lose their finalizer first.
    async fn delete(&self, look: &Look<'_>, pods: &[Arc<Pod>], unheld: bool) -> Result<(), Error> {
        if pods.is_empty() {
            return Ok(());
        }
        self.expectations.expect_deletions(look.key, pods.iter().map(|pod| pod.uid()));
        let all = pods.iter().map(|pod| async move {
            let released = if unheld { finalizer::remove(&self.client, pod).await } else { Ok(()) };
            let result = match released {
                Ok(()) => self.control.delete(look.job, pod).await,
                Err(error) => Err(error),
            };
            if result.is_err() {
                self.expectations.deletion_observed(look.key, pod.uid());
            }
            result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })
        });
        futures::future::join_all(all).await.into_iter().find(Result::is_err).unwrap_or(Ok(()))
    }
}

/// Whether everything asked for has been done.
fn completed(spec: &JobSpec, tally: &Tally, active: usize) -> Option<Ending> {
    let done = match spec.completions {
        None => tally.succeeded > 0 && active == 0,
        Some(completions) => tally.succeeded >= completions && active == 0,
    };
    done.then(|| {
        Ending::success("CompletionsReached", "Reached expected number of succeeded pods".to_owned())
    })
}

fn set_sizes(status: &mut JobStatus, active: &[Arc<Pod>], terminating: usize) {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    status.active = Some(count(active.len())).filter(|&count| count != 0);
    status.ready = Some(count(active.iter().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(count(terminating));
}
