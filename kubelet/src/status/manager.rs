//! Writes pod statuses to the API: one request per pod in flight, the newest status wins, changes in between are
//! never sent. When a deleted pod has nothing left on this node, deletes it for good.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use knarr_api::time::SharedClock;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{conditions, patch};
use crate::pod::spec;
use crate::resize::conditions::{IN_PROGRESS, PENDING};

/// Requests in flight over all pods.
const PARALLEL_REQUESTS: usize = 32;
/// What only says that a pod is on its way may wait this long for better news, which usually come: most pods then cost
/// the API one write less or two.
const PATIENCE: Duration = Duration::from_millis(40);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

struct Entry {
    /// The pod in the API: for a static pod its mirror, once there is one.
    target: Option<Arc<Pod>>,
    is_static: bool,
    /// What the API should have.
    status: PodStatus,
    /// What the API is known to have.
    api: PodStatus,
    /// resourceVersion of `api`; older news is no news.
    api_version: u64,
    /// Nothing of the pod is left here that the API must wait for.
    finished: bool,
    sending: bool,
    dirty: bool,
    /// Nothing that is still to be sent is urgent.
    patient: bool,
    /// Something is, after all.
    hurry: Arc<Notify>,
}

/// Cheap to clone; all clones are one manager.
#[derive(Clone)]
pub struct StatusManager {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    clock: SharedClock,
    entries: Mutex<HashMap<String, Entry>>,
    /// Mirrors in the API by their static pod's uid: one may be there before we have anything to say of its pod. Locked
    /// within `entries`.
    mirrors: Mutex<HashMap<String, Arc<Pod>>>,
    slots: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn version_of(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl StatusManager {
    pub fn new(client: kube::Client, clock: SharedClock, stop: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                clock,
                entries: Mutex::default(),
                mirrors: Mutex::default(),
                slots: Semaphore::new(PARALLEL_REQUESTS),
                tasks: TaskTracker::new(),
                stop,
            }),
        }
    }

    /// Our last word on a pod.
    pub fn get(&self, uid: &str) -> Option<PodStatus> {
        self.inner.entries.lock().get(uid).map(|entry| entry.status.clone())
    }

    /// Looks at our last word without copying it.
    pub fn with<T>(&self, uid: &str, look: impl FnOnce(&PodStatus) -> T) -> Option<T> {
        self.inner.entries.lock().get(uid).map(|entry| look(&entry.status))
    }

    /// Says how the pod is. `containers_may_run` holds a terminal phase back until the containers have ended, so that
    /// nobody replaces a pod that still runs.
    pub fn set(&self, pod: &Arc<Pod>, mut status: PodStatus, containers_may_run: bool) {
        let uid = spec::uid(pod).to_owned();
        let now = Time(self.inner.clock.now());
        let mut entries = self.inner.entries.lock();
        let entry = entries.entry(uid.clone()).or_insert_with(|| {
            let mut entry = Entry::new(pod);
            if let Some(mirror) = self.inner.mirrors.lock().get(&uid) {
                entry.observe(mirror);
            }
            entry
        });
        entry.observe(pod);
        let old = &entry.status;
        if containers_may_run && becomes_terminal(old, &status) {
            status.phase.clone_from(&old.phase);
            status.reason.clone_from(&old.reason);
            status.message.clone_from(&old.message);
        }
        keep_transition_times(old, &mut status, &now);
        status.start_time = old
            .start_time
            .clone()
            .or_else(|| pod.status.as_ref().and_then(|s| s.start_time.clone()))
            .or_else(|| status.start_time.take())
            .or(Some(now));
        if *old == status && !entry.dirty {
            return;
        }
        if !on_its_way(&status) || spec::being_deleted(pod) {
            entry.be_quick();
        } else if !entry.dirty {
            entry.patient = true;
        }
        entry.status = status;
        entry.dirty = true;
        self.send_if_idle(uid, entry);
    }

    /// A watch showed the pod. Where the API's status is newer than our last write and differs, ours is sent again.
    pub fn observe(&self, uid: &str, pod: &Arc<Pod>) {
        let mut entries = self.inner.entries.lock();
        if spec::is_mirror(pod) {
            self.inner.mirrors.lock().insert(uid.to_owned(), Arc::clone(pod));
        }
        let Some(entry) = entries.get_mut(uid) else { return };
        if entry.observe(pod) && (entry.differs(uid) || entry.may_delete()) {
            entry.dirty = true;
            entry.be_quick();
        }
        self.send_if_idle(uid.to_owned(), entry);
    }

    /// The API no longer has this mirror of a static pod.
    pub fn mirror_lost(&self, uid: &str, mirror: &Pod) {
        let mut entries = self.inner.entries.lock();
        let mut mirrors = self.inner.mirrors.lock();
        if mirrors.get(uid).is_some_and(|known| spec::uid(known) == spec::uid(mirror)) {
            mirrors.remove(uid);
        }
        if let Some(entry) = entries.get_mut(uid) {
            entry.lose(spec::uid(mirror));
        }
    }

    /// Nothing of the pod is left on this node: a deleted pod may go.
    pub fn finish(&self, pod: &Arc<Pod>) {
        let mut entries = self.inner.entries.lock();
        let Some(entry) = entries.get_mut(spec::uid(pod)) else { return };
        entry.observe(pod);
        entry.finished = true;
        entry.dirty = true;
        entry.be_quick();
        self.send_if_idle(spec::uid(pod).to_owned(), entry);
    }

    /// The API no longer has the pod.
    pub fn forget(&self, uid: &str) {
        self.inner.entries.lock().remove(uid);
    }

    /// Waits for requests in flight, for an orderly stop.
    pub async fn drain(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn send_if_idle(&self, uid: String, entry: &mut Entry) {
        if entry.sending || !entry.dirty || self.inner.stop.is_cancelled() {
            return;
        }
        entry.sending = true;
        let this = self.clone();
        self.inner.tasks.spawn(async move { this.send(uid).await });
    }

    /// Sends until the API has what it should have.
    async fn send(&self, uid: String) {
        let mut retry = FIRST_RETRY;
        loop {
            self.wait_for_better_news(&uid).await;
            let Some(job) = self.next_job(&uid) else { return };
            let target = spec::uid(&job.pod).to_owned();
            let outcome = {
                let Ok(_slot) = self.inner.slots.acquire().await else { return };
                self.perform(&uid, job).await
            };
            match outcome {
                Ok(()) => retry = FIRST_RETRY,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    debug!(pod.uid = %uid, "pod is gone, its status is not needed");
                    let mut entries = self.inner.entries.lock();
                    match entries.get_mut(&uid) {
                        Some(entry) if entry.is_static => entry.lose(&target),
                        _ => {
                            entries.remove(&uid);
                            return;
                        }
                    }
                }
                Err(error) => {
                    warn!(pod.uid = %uid, %error, "failed to update status for pod");
                    if let Some(entry) = self.inner.entries.lock().get_mut(&uid) {
                        entry.dirty = true;
                        // A conflict of uids: another pod took the name, ours is history.
                        if let kube::Error::Api(status) = &error
                            && status.code == 409
                        {
                            entry.target = None;
                        }
                    }
                    tokio::select! {
                        () = tokio::time::sleep(retry) => {}
                        () = self.inner.stop.cancelled() => return,
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    }

    async fn wait_for_better_news(&self, uid: &str) {
        let patient = |entry: &Entry| (entry.dirty && entry.patient).then(|| Arc::clone(&entry.hurry));
        let Some(hurry) = self.inner.entries.lock().get(uid).and_then(patient) else { return };
        tokio::select! {
            () = tokio::time::sleep(PATIENCE) => {}
            () = hurry.notified() => {}
            () = self.inner.stop.cancelled() => {}
        }
    }

    /// What is to be done for the pod; `None` ends the sender.
    fn next_job(&self, uid: &str) -> Option<Job> {
        let mut entries = self.inner.entries.lock();
        let entry = entries.get_mut(uid)?;
        let target = entry.target.clone().filter(|_| entry.dirty);
        let Some(pod) = target else {
            entry.sending = false;
            return None;
        };
        entry.dirty = false;
        entry.patient = false;
        let api_uid = spec::uid(&pod).to_owned();
        let patch = patch::between(&api_uid, &entry.api, &entry.status);
        let delete = entry.may_delete();
        if patch.is_none() && !delete {
            entry.sending = false;
            return None;
        }
        Some(Job { pod, patch, delete })
    }

    async fn perform(&self, uid: &str, job: Job) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.inner.client.clone(), spec::namespace(&job.pod));
        let name = spec::name(&job.pod);
        if let Some(patch) = &job.patch {
            let answer = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
            let mut entries = self.inner.entries.lock();
            if let Some(entry) = entries.get_mut(uid) {
                entry.observe(&Arc::new(answer));
            }
        }
        // A change that came meanwhile is sent first; the deletion then comes with it.
        let still = self.inner.entries.lock().get(uid).is_some_and(|entry| !entry.dirty);
        if job.delete && still {
            let parameters = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: job.pod.metadata.uid.clone(),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            match api.delete(name, &parameters).await {
                Ok(_) => debug!(pod = name, "pod fully terminated and removed from the API"),
                // Gone, or replaced by a namesake.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

struct Job {
    pod: Arc<Pod>,
    patch: Option<serde_json::Value>,
    delete: bool,
}

impl Entry {
    fn new(pod: &Arc<Pod>) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        Self {
            target: (!spec::is_static(pod)).then(|| Arc::clone(pod)),
            is_static: spec::is_static(pod),
            api: status.clone(),
            status,
            api_version: version_of(pod),
            finished: false,
            sending: false,
            dirty: false,
            patient: false,
            hurry: Arc::default(),
        }
    }

    /// This mirror is gone; the next one gets our word.
    fn lose(&mut self, mirror: &str) {
        if self.target.as_ref().is_some_and(|target| spec::uid(target) == mirror) {
            self.target = None;
            self.dirty = true;
        }
    }

    fn be_quick(&mut self) {
        if std::mem::take(&mut self.patient) {
            self.hurry.notify_one();
        }
    }

    /// Takes in the API's newest picture; `false` for an older one. Static pods' manifests are not the API's word.
    fn observe(&mut self, pod: &Arc<Pod>) -> bool {
        let version = version_of(pod);
        if spec::is_static(pod) || (version < self.api_version && self.target.is_some()) {
            return false;
        }
        self.api_version = version;
        self.api = pod.status.clone().unwrap_or_default();
        self.target = Some(Arc::clone(pod));
        true
    }

    fn differs(&self, uid: &str) -> bool {
        if self.api == self.status {
            return false;
        }
        // Conditions of others are theirs: adopt them before comparing.
        let mut ours = self.status.clone();
        let theirs = self.api.conditions.iter().flatten().filter(|c| !conditions::owned(&c.type_));
        let mut merged: Vec<PodCondition> = theirs.cloned().collect();
        merged.extend(ours.conditions.take().into_iter().flatten().filter(|c| conditions::owned(&c.type_)));
        ours.conditions = Some(merged).filter(|list| !list.is_empty());
        patch::between(uid, &self.api, &ours).is_some()
    }

    fn may_delete(&self) -> bool {
        self.finished
            && self.target.as_ref().is_some_and(|pod| spec::being_deleted(pod) && !spec::is_mirror(pod))
    }
}

/// Nothing has run or failed yet: the containers are being made.
fn on_its_way(status: &PodStatus) -> bool {
    let making = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        matches!(reason, Some("ContainerCreating" | "PodInitializing")) && container.last_state.is_none()
    };
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    status.phase.as_deref() == Some("Pending") && lists.into_iter().flatten().flatten().all(making)
}

fn becomes_terminal(old: &PodStatus, new: &PodStatus) -> bool {
    !spec::is_terminal_phase(old.phase.as_deref()) && spec::is_terminal_phase(new.phase.as_deref())
}

/// A condition whose status did not change keeps the time it changed.
fn keep_transition_times(old: &PodStatus, new: &mut PodStatus, now: &Time) {
    for condition in new.conditions.iter_mut().flatten() {
        // A resize says itself since when.
        if matches!(condition.type_.as_str(), PENDING | IN_PROGRESS) {
            continue;
        }
        let before = old.conditions.iter().flatten().find(|c| c.type_ == condition.type_);
        match before.filter(|before| before.status == condition.status) {
            Some(before) if before.last_transition_time.is_some() => {
                condition.last_transition_time.clone_from(&before.last_transition_time);
            }
            _ if condition.last_transition_time.is_none() => {
                condition.last_transition_time = Some(now.clone());
            }
            _ => {}
        }
    }
}
