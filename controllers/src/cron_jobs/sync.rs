//! One look at one CronJob.

use std::{sync::Arc, time::Duration};

use jiff::{Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::{is_already_exists, is_namespace_terminating, is_not_found, message},
    events::{EventRecorder, EventType},
    object::{controller_of, controller_reference, object_reference},
};
use kube::api::{DeleteParams, PostParams};

use super::{
    BY_CONTROLLER,
    plan::{due, is_too_late},
    schedule::Schedule,
};
use crate::{
    error::{Error, Step},
    jobs::is_finished,
};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Times have whole seconds; a little later it is surely past.
const MARGIN: Duration = Duration::from_millis(100);

pub(super) struct Sync {
    pub(super) crons: SharedInformer<CronJob>,
    pub(super) jobs: SharedInformer<Job>,
    pub(super) recorder: EventRecorder,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(cached) = self.crons.get_key(key) else { return Ok(Action::Done) };
        let mut cron = (*cached).clone();
        let jobs = self.jobs.by_index(BY_CONTROLLER, cron.uid());
        self.follow_active(&mut cron, &jobs);
        self.shorten_history(&cron, &jobs).await?;
        let next = if cron.metadata.deletion_timestamp.is_none() && !cron.spec.suspend.unwrap_or(false) {
            self.run_if_due(&mut cron, &jobs).await
        } else {
            Ok(Action::Done)
        };
        if cron.status != cached.status {
            let api = Api::<CronJob>::namespaced(self.client.clone(), cron.namespace());
            match api.replace_status(cron.name(), &PostParams::default(), &cron).await {
                Err(error) if is_not_found(&error) => {}
                other => drop(other.step("update status of cron job", cron.name())?),
            }
        }
        next
    }
}

fn end_of(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let ended = conditions.iter().find(|condition| {
        ["Complete", "Failed"].contains(&condition.type_.as_str()) && condition.status == "True"
    });
    ended.map(|condition| condition.type_.as_str())
}

impl Sync {
    fn tell(&self, cron: &CronJob, kind: EventType, reason: &str, text: String) {
        self.recorder.event(cron, kind, reason, text);
    }

    /// Brings the list of running Jobs up to date.
    fn follow_active(&self, cron: &mut CronJob, jobs: &[Arc<Job>]) {
        let mut status = cron.status.clone().unwrap_or_default();
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let listed = active.iter().any(|reference| reference.uid.as_deref() == Some(job.uid()));
            match (end_of(job), listed) {
                (Some(end), true) => {
                    active.retain(|reference| reference.uid.as_deref() != Some(job.uid()));
                    let text = format!("Saw completed job: {}, condition: {end}", job.name());
                    self.tell(cron, EventType::Normal, "SawCompletedJob", text);
                }
                (None, false) => {
                    let text =
                        format!("Saw a job that the controller did not create or forgot: {}", job.name());
                    self.tell(cron, EventType::Warning, "UnexpectedJob", text);
                }
                _ => {}
            }
            if end_of(job) == Some("Complete") {
                let done = job.status.as_ref().and_then(|status| status.completion_time.clone());
                status.last_successful_time = status.last_successful_time.max(done);
            }
        }
        active.retain(|reference| {
            let there = jobs.iter().any(|job| reference.uid.as_deref() == Some(job.uid()));
            if !there {
                let name = reference.name.as_deref().unwrap_or_default();
                let text = format!("Active job went missing: {name}");
                self.tell(cron, EventType::Normal, "MissingJob", text);
            }
            there
        });
        status.active = Some(active).filter(|active| !active.is_empty());
        cron.status = Some(status);
    }

    /// Removes the oldest ended Jobs beyond what is to be kept.
    async fn shorten_history(&self, cron: &CronJob, jobs: &[Arc<Job>]) -> Result<(), Error> {
        for (end, limit) in [
            ("Complete", cron.spec.successful_jobs_history_limit),
            ("Failed", cron.spec.failed_jobs_history_limit),
        ] {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let mut ended: Vec<_> = jobs.iter().filter(|job| end_of(job) == Some(end)).collect();
            ended.sort_by_key(|job| {
                (job.status.as_ref().and_then(|status| status.start_time.clone()), job.name())
            });
            for job in ended.iter().take(ended.len().saturating_sub(limit)) {
                self.delete(cron, job).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let api = Api::<Job>::namespaced(self.client.clone(), job.namespace());
        match api.delete(job.name(), &DeleteParams::background()).await {
            Ok(_) => {
                let text = format!("Deleted job {}", job.name());
                self.tell(cron, EventType::Normal, "SuccessfulDelete", text);
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let text = format!("Deleted job: {}", message(&error));
                self.tell(cron, EventType::Warning, "FailedDelete", text);
                Err(error).step("delete job", job.name())
            }
        }
    }

    async fn run_if_due(&self, cron: &mut CronJob, jobs: &[Arc<Job>]) -> Result<Action, Error> {
        let zone = match cron.spec.time_zone.as_deref().map(TimeZone::get) {
            None => TimeZone::UTC,
            Some(Ok(zone)) => zone,
            Some(Err(error)) => {
                let name = cron.spec.time_zone.as_deref().unwrap_or_default();
                self.tell(
                    cron,
                    EventType::Warning,
                    "UnknownTimeZone",
                    format!("invalid timeZone: {name:?}: {error}"),
                );
                return Ok(Action::Done);
            }
        };
        let schedule = match Schedule::parse(&cron.spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let text = format!("unparseable schedule: {:?} : {error}", cron.spec.schedule);
                self.tell(cron, EventType::Warning, "UnparseableSchedule", text);
                return Ok(Action::Done);
            }
        };
        let now = self.clock.now();
        let due = due(cron, &schedule, &zone, now);
        if due.too_many {
            let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(cron, EventType::Warning, "TooManyMissedTimes", text.to_owned());
        }
        if let Some(time) = due.time {
            self.run(cron, jobs, time, now).await?;
        }
        Ok(due.next.map_or(Action::Done, |next| Action::After(next + MARGIN)))
    }

    /// Makes the Job of a time, as far as the rules about running ones allow.
    async fn run(
        &self,
        cron: &mut CronJob,
        jobs: &[Arc<Job>],
        time: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        if is_too_late(cron, time, now) {
            let text = format!(
                "Missed scheduled time to start a job: {}",
                time.strftime("%a, %d %b %Y %H:%M:%S +0000")
            );
            self.tell(cron, EventType::Warning, "MissSchedule", text);
            return Ok(());
        }
        let active = cron.status.as_ref().and_then(|status| status.active.clone()).unwrap_or_default();
        let name = format!("{}-{}", cron.name(), time.as_second() / 60);
        if active.iter().any(|reference| reference.name.as_deref() == Some(&name)) {
            return Ok(());
        }
        match cron.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let text =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.tell(cron, EventType::Normal, "JobAlreadyActive", text.to_owned());
                return Ok(());
            }
            Some("Replace") => {
                for job in jobs.iter().filter(|job| !is_finished(job)) {
                    self.delete(cron, job).await?;
                }
                cron.status.get_or_insert_default().active = None;
            }
            _ => {}
        }
        if let Some(reference) = self.create(cron, &name, time).await? {
            let status = cron.status.get_or_insert_default();
            status.active.get_or_insert_default().push(reference);
            status.last_schedule_time = Some(Time(time));
        }
        Ok(())
    }

    async fn create(
        &self,
        cron: &CronJob,
        name: &str,
        time: Timestamp,
    ) -> Result<Option<ObjectReference>, Error> {
        let template = &cron.spec.job_template;
        let metadata = template.metadata.as_ref();
        let mut annotations = metadata.and_then(|metadata| metadata.annotations.clone()).unwrap_or_default();
        annotations.insert(SCHEDULED_AT.to_owned(), time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let job = Job {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: cron.metadata.namespace.clone(),
                labels: metadata.and_then(|metadata| metadata.labels.clone()),
                annotations: Some(annotations),
                owner_references: Some(vec![controller_reference(cron)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        };
        let api = Api::<Job>::namespaced(self.client.clone(), cron.namespace());
        let made = match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                self.tell(cron, EventType::Normal, "SuccessfulCreate", format!("Created job {name}"));
                made
            }
            Err(error) if is_namespace_terminating(&error) => return Ok(None),
            Err(error) if is_already_exists(&error) => {
                // Made before, and the status could not be written then.
                let known = api.get(name).await.step("get job", name)?;
                let ours = controller_of(&known.metadata).is_some_and(|owner| owner.uid == cron.uid());
                if !ours {
                    return Err(error).step("create job", name);
                }
                known
            }
            Err(error) => {
                let text = format!("Error creating job: {}", message(&error));
                self.tell(cron, EventType::Warning, "FailedCreate", text);
                return Err(error).step("create job", name);
            }
        };
        Ok(Some(ObjectReference { resource_version: None, ..object_reference(&made) }))
    }
}
