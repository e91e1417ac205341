//! The one task that looks after one pod, from its first sight to its last trace.
//!
//! ```text
//!   syncing ── deleted, finished, evicted ──▶ terminating ──▶ terminated ── gone from the API ──▶ cleaned up
//!             (containers run)              (containers end)  (volumes, cgroup gone; status final)
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use knarr_runtime::cri::{self, ContainerState};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::observed::{Observed, Seen};
use super::waits::PullError;
use super::{cleanup, kill, messages, spec};
use crate::agent::Agent;
use crate::resources::cgroups;
use crate::status::containers::{Context, StartFailures};
use crate::status::generate::{NodeFacts, Verdict, conclude, generate};

/// When the worker has something to do again, besides being woken.
pub(super) enum Next {
    Again,
    Idle,
    At(Timestamp),
    Terminate,
}

struct Mail {
    pod: Arc<Pod>,
    /// The API no longer has the pod.
    gone: bool,
    /// A static pod whose manifest came back while it was ending: it starts anew when it has ended.
    next: Option<Arc<Pod>>,
    verdict: Option<Verdict>,
}

/// What others tell a worker. The newest word replaces older ones.
pub struct Inbox {
    mail: Mutex<Mail>,
    wake: Notify,
    /// The pod is to end.
    pub(super) terminate: CancellationToken,
    grace: watch::Sender<Option<Duration>>,
    observed: watch::Sender<Arc<Observed>>,
}

impl Inbox {
    pub fn new(pod: Arc<Pod>) -> Self {
        let inbox = Self {
            mail: Mutex::new(Mail { pod: Arc::clone(&pod), gone: false, next: None, verdict: None }),
            wake: Notify::new(),
            terminate: CancellationToken::new(),
            grace: watch::Sender::new(None),
            observed: watch::Sender::new(Arc::default()),
        };
        inbox.update(pod);
        inbox
    }

    /// The API's (or the manifest's) newest word.
    pub fn update(&self, pod: Arc<Pod>) {
        let ending = spec::being_deleted(&pod) || spec::is_terminal_phase(spec::phase(&pod));
        let grace = deletion_grace(&pod);
        {
            let mut mail = self.mail.lock();
            if mail.gone && spec::is_static(&pod) {
                mail.next = Some(pod);
                return;
            }
            mail.pod = pod;
        }
        // After the news itself: who hears of the end sees why.
        if ending {
            self.shorten(grace);
            self.terminate.cancel();
        }
        self.wake.notify_one();
    }

    /// What is to be started when this pod has ended.
    pub(super) fn take_next(&self) -> Option<Arc<Pod>> {
        self.mail.lock().next.take()
    }

    /// How long the pod may take to end, once it is to; it shrinks on the way.
    pub(super) fn grace(&self) -> watch::Receiver<Option<Duration>> {
        self.grace.subscribe()
    }

    /// The API no longer has the pod.
    pub fn gone(&self, last: Arc<Pod>) {
        self.shorten(deletion_grace(&last));
        {
            let mut mail = self.mail.lock();
            mail.gone = true;
            mail.next = None;
            mail.pod = last;
        }
        self.terminate.cancel();
        self.wake.notify_one();
    }

    /// Ends the pod with this verdict, within this time.
    pub fn evict(&self, verdict: Verdict, grace: Duration) {
        self.mail.lock().verdict = Some(verdict);
        self.shorten(Some(grace));
        self.terminate.cancel();
        self.wake.notify_one();
    }

    /// Something about the pod may have changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub fn pod(&self) -> Arc<Pod> {
        Arc::clone(&self.mail.lock().pod)
    }

    pub fn terminating(&self) -> bool {
        self.terminate.is_cancelled()
    }

    /// What the worker last saw of the pod in the runtime.
    pub fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.observed.borrow())
    }

    /// Follows what the worker sees of the pod.
    pub fn follow(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.subscribe()
    }

    fn is_gone(&self) -> bool {
        self.mail.lock().gone
    }

    /// Grace periods only ever shrink.
    fn shorten(&self, grace: Option<Duration>) {
        let Some(grace) = grace else { return };
        self.grace.send_if_modified(|current| {
            let shorter = current.is_none_or(|current| grace < current);
            if shorter {
                *current = Some(grace);
            }
            shorter
        });
    }
}

/// What a deletion allows the pod's containers; at least a second.
fn deletion_grace(pod: &Pod) -> Option<Duration> {
    let seconds = pod.metadata.deletion_grace_period_seconds?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1)))
}

pub struct Worker {
    pub(super) agent: Arc<Agent>,
    pub(super) inbox: Arc<Inbox>,
    /// Sandboxes of the pod, live and dead.
    pub(super) sandboxes: Vec<String>,
    pub(super) failures: StartFailures,
    /// By container name.
    pub(super) pull_errors: HashMap<String, PullError>,
    pub(super) restarts: Backoff,
    pub(super) verdict: Option<Verdict>,
    /// Cgroup and directories are there.
    pub(super) prepared: bool,
    pub(super) failed_syncs: u32,
    /// Termination messages of containers that ended, by id.
    messages: HashMap<String, String>,
    /// Since when volumes wait to be attached.
    pub(super) unattached_since: Option<Timestamp>,
    /// No container is left.
    ended: bool,
    terminated: bool,
}

impl Worker {
    pub fn new(
        agent: Arc<Agent>,
        inbox: Arc<Inbox>,
        sandboxes: Vec<String>,
        verdict: Option<Verdict>,
    ) -> Self {
        let restarts = Backoff::new(agent.config.max_container_restart_period);
        Self {
            agent,
            inbox,
            sandboxes,
            failures: StartFailures::new(),
            pull_errors: HashMap::new(),
            restarts,
            verdict,
            prepared: false,
            failed_syncs: 0,
            messages: HashMap::new(),
            unattached_since: None,
            ended: false,
            terminated: false,
        }
    }

    /// Runs until no trace of the pod is left, or the agent stops (which leaves the pod's containers running).
    pub async fn run(mut self, stop: CancellationToken) {
        // Containers may be stopped from outside once the agent stops: that must not be answered by starting them again.
        while !stop.is_cancelled() {
            let Some(next) = self.step().await else { return };
            let sleep = match next {
                Next::Again => continue,
                Next::Terminate => {
                    self.inbox.terminate.cancel();
                    continue;
                }
                Next::Idle => None,
                Next::At(at) => {
                    let left = at.duration_since(self.agent.now());
                    Some(Duration::try_from(left).unwrap_or_default().max(Duration::from_millis(1)))
                }
            };
            let timer = async {
                match sleep {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inbox.wake.notified() => {}
                () = timer => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// `None` when the pod is done with.
    async fn step(&mut self) -> Option<Next> {
        let pod = self.pod();
        self.agent.status.observe(spec::uid(&pod), &pod);
        if !self.inbox.terminating() {
            return Some(self.sync(&pod).await);
        }
        if !self.terminated {
            if let Some(verdict) = self.inbox.mail.lock().verdict.take() {
                self.verdict.get_or_insert(verdict);
            }
            if !self.ended
                && let Err(error) = self.end(&pod).await
            {
                let message = format!("error killing pod: {error}");
                self.agent.recorder.warning(spec::reference(&pod), "FailedKillPod", message);
                return Some(self.retry_after_failure());
            }
            self.ended = true;
            if let Err(error) = self.release(&self.pod()).await {
                tracing::warn!(pod = %spec::display(&pod), %error, "cannot take away what the pod used");
                return Some(self.retry_after_failure());
            }
            self.terminated = true;
        }
        if !self.inbox.is_gone() {
            return Some(Next::Idle);
        }
        match cleanup::remove_traces(&self.agent, &pod, &self.sandboxes).await {
            Ok(()) => {
                self.agent.status.forget(spec::uid(&pod));
                self.agent.allocations.forget(spec::uid(&pod));
                None
            }
            Err(error) => {
                tracing::warn!(pod = %spec::display(&pod), %error, "cannot remove what is left of the pod");
                Some(self.retry_after_failure())
            }
        }
    }

    /// The pod with what the node has promised it.
    fn pod(&self) -> Arc<Pod> {
        self.agent.allocations.allocated(&self.inbox.pod())
    }

    /// Ends the containers and says how they ended.
    async fn end(&mut self, pod: &Arc<Pod>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let uid = spec::uid(pod);
        let before = self.observe().await?;
        let running = before.running().next().is_some();
        if running {
            let status = self.generate(pod, &before, false);
            self.agent.status.set(pod, status, true);
        }
        self.agent.probes.stop_liveness_and_startup(uid);
        let mut shorter = self.inbox.grace();
        let grace = *shorter.borrow_and_update();
        self.kill(pod, &before, grace, &shorter).await?;
        self.agent.probes.remove_pod(uid);
        let mut after = self.observe().await?;
        after.ips.clone_from(&before.ips);
        // The pod may have changed while its containers took their time.
        let pod = self.pod();
        self.agent.resize_queue.forget(uid);
        self.agent.resizes.forget(uid);
        let mut status = self.generate(&pod, &after, true);
        conclude(&pod, &mut status);
        self.agent.status.set(&pod, status, false);
        self.failed_syncs = 0;
        Ok(())
    }

    /// Takes away what the containers used. Only then may the API forget the pod.
    async fn release(&self, pod: &Arc<Pod>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let uid = spec::uid(pod);
        self.agent.volumes.tear_down(uid).await?;
        self.agent.objects.unregister(uid);
        let cgroup = cgroups::of_pod(&self.agent.config.cgroup_root, pod);
        self.agent.runtime.remove_pod_cgroup(&cgroup).await?;
        self.agent.weigh_burstable(self.agent.burstable.remove(uid)).await;
        self.agent.status.finish(pod);
        Ok(())
    }

    /// Ends the containers. Meanwhile the API hears of each that has ended, and whether the others are still ready: a
    /// Service sends requests to ending pods as long as they are and nobody else is.
    async fn kill(
        &mut self,
        pod: &Arc<Pod>,
        before: &Observed,
        grace: Option<Duration>,
        shorter: &watch::Receiver<Option<Duration>>,
    ) -> Result<(), kill::KillError> {
        let (agent, inbox) = (Arc::clone(&self.agent), Arc::clone(&self.inbox));
        let killing = kill::pod(&agent, pod, before, grace, Some(shorter));
        tokio::pin!(killing);
        loop {
            tokio::select! {
                // What both have to say is said by who asked for the end.
                biased;
                killed = &mut killing => return killed,
                () = inbox.wake.notified() => self.publish(pod).await,
            }
        }
    }

    /// Asks the runtime about the pod.
    pub(super) async fn observe(&mut self) -> cri::Result<Observed> {
        let (mut sandboxes, mut containers, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for id in &self.sandboxes {
            match self.agent.runtime.sandbox_status(id).await {
                Ok(status) => {
                    containers.extend(self.agent.runtime.list_containers(Some(id)).await?);
                    sandboxes.push(status);
                }
                Err(cri::Error::NotFound { .. }) => lost.push(id.clone()),
                Err(error) => return Err(error),
            }
        }
        self.sandboxes.retain(|id| !lost.contains(id));
        let containers = containers.into_iter().map(|status| self.read_message(status)).collect();
        let mut observed = Observed::new(Vec::new(), sandboxes, containers);
        if let Some(ready) = observed.ready_sandbox() {
            observed.ips = self.agent.addresses(ready);
        }
        self.inbox.observed.send_replace(Arc::new(observed.clone()));
        Ok(observed)
    }

    /// A dead container's last words are read once.
    fn read_message(&mut self, status: cri::ContainerStatus) -> Seen {
        if status.state != ContainerState::Exited || !self.agent.config.host {
            return Seen::new(status);
        }
        let agent = &self.agent;
        let message = self.messages.entry(status.id.clone()).or_insert_with(|| {
            let pod = self.inbox.pod();
            messages::read(&status, &agent.pod_log_dir(&pod))
        });
        let message = message.clone();
        let mut seen = Seen::new(status);
        if !message.is_empty() {
            if !seen.message.is_empty() {
                seen.message.push_str(": ");
            }
            seen.message.push_str(&message);
        }
        seen
    }

    pub(super) fn generate(&self, pod: &Pod, observed: &Observed, terminal: bool) -> PodStatus {
        let old = self.agent.status.get(spec::uid(pod)).or_else(|| pod.status.clone()).unwrap_or_default();
        let actuated = self.agent.allocations.as_actuated(pod);
        let context = Context {
            pod,
            actuated: &actuated,
            observed,
            failures: &self.failures,
            runtime_name: &self.agent.runtime_name,
        };
        let probes = self.agent.probes.view(spec::uid(pod));
        let resizes = self.agent.resizes.of(spec::uid(pod));
        let node = NodeFacts { host_ips: self.agent.host_ips(), resizes: &resizes };
        generate(context, &old, &probes, node, terminal, self.verdict.as_ref())
    }
}
