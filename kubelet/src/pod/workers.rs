//! All pods of the node and their workers: news from the API, the runtime, probes and objects goes to the right one.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::spec;
use super::worker::{Inbox, Worker};
use crate::agent::Agent;
use crate::lifecycle::admission::{self, Rejection};
use crate::resize::queue;
use crate::status::generate::Verdict;
use crate::status::qos;

/// Workers by pod uid. Cheap to clone; all clones are one registry.
#[derive(Clone)]
pub struct Workers {
    inner: Arc<Inner>,
}

struct Inner {
    inboxes: Mutex<HashMap<String, Arc<Inbox>>>,
    /// Sandboxes found at start, for pods we have not met yet.
    adopted: Mutex<HashMap<String, Vec<String>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Workers {
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                inboxes: Mutex::default(),
                adopted: Mutex::default(),
                tasks: TaskTracker::new(),
                stop,
            }),
        }
    }

    /// Sandboxes that were there before this agent, by pod uid.
    pub fn adopt(&self, sandboxes: HashMap<String, Vec<String>>) {
        *self.inner.adopted.lock() = sandboxes;
    }

    /// A pod as the API has it now: its worker is told, or starts.
    pub fn apply(&self, agent: &Arc<Agent>, pod: &Arc<Pod>) {
        let uid = spec::uid(pod).to_owned();
        let mut inboxes = self.inner.inboxes.lock();
        if let Some(inbox) = inboxes.get(&uid) {
            inbox.update(Arc::clone(pod));
            drop(inboxes);
            if agent.allocations.differs(pod) || agent.resize_queue.waits(&uid) {
                agent.resize_queue.push(&uid);
            }
            self.reconsider_resizes(agent);
            return;
        }
        let sandboxes = self.inner.adopted.lock().remove(&uid).unwrap_or_default();
        let known = agent.allocations.load(&uid);
        let verdict = if sandboxes.is_empty() { self.refuse(agent, pod, &inboxes) } else { None };
        if !known && verdict.is_none() {
            agent.allocations.allocate(pod);
        }
        agent.resizes.adopt(pod);
        let inbox = Arc::new(Inbox::new(Arc::clone(pod)));
        if verdict.is_some() {
            inbox.terminate.cancel();
        }
        inboxes.insert(uid.clone(), Arc::clone(&inbox));
        drop(inboxes);
        if agent.allocations.differs(pod) {
            agent.resize_queue.push(&uid);
            self.reconsider_resizes(agent);
        }
        let worker = Worker::new(Arc::clone(agent), inbox, sandboxes, verdict);
        let (registry, agent, stop) = (self.clone(), Arc::clone(agent), self.inner.stop.clone());
        self.inner.tasks.spawn(async move {
            worker.run(stop.clone()).await;
            if !stop.is_cancelled() {
                registry.ended(&agent, &uid);
            }
        });
    }

    /// Nothing is left of the pod; it may have come back meanwhile.
    fn ended(&self, agent: &Arc<Agent>, uid: &str) {
        let inbox = self.inner.inboxes.lock().remove(uid);
        // Whoever tells it something does so with the registry locked, so nothing comes after this.
        if let Some(pod) = inbox.and_then(|inbox| inbox.take_next()) {
            self.apply(agent, &pod);
        }
    }

    /// The API no longer has the pod.
    pub fn remove(&self, agent: &Agent, pod: &Arc<Pod>) {
        if let Some(inbox) = self.inner.inboxes.lock().get(spec::uid(pod)) {
            inbox.gone(Arc::clone(pod));
        }
        self.reconsider_resizes(agent);
    }

    /// Something on the node changed: perhaps there is room for a resize that waits.
    fn reconsider_resizes(&self, agent: &Agent) {
        if agent.resize_queue.is_empty() {
            return;
        }
        let _turn = agent.resize_queue.turn();
        let alive: Vec<Arc<Inbox>> = self.all().into_iter().filter(|inbox| !inbox.terminating()).collect();
        let mut waiting: Vec<Arc<Pod>> = alive
            .iter()
            .map(|inbox| inbox.pod())
            .filter(|pod| agent.resize_queue.waits(spec::uid(pod)))
            .collect();
        queue::sort(agent, &mut waiting);
        for pod in waiting {
            let uid = spec::uid(&pod);
            let others = alive.iter().map(|inbox| inbox.pod()).filter(|other| spec::uid(other) != uid);
            let others: Vec<Arc<Pod>> = others.map(|other| agent.allocations.allocated(&other)).collect();
            let others = others.iter().map(|other| &**other);
            if queue::consider(agent, &pod, others) {
                self.wake(uid);
            }
        }
    }

    /// Admission of a pod that has never run here; a refused one fails, and says why.
    fn refuse(
        &self,
        agent: &Agent,
        pod: &Arc<Pod>,
        inboxes: &HashMap<String, Arc<Inbox>>,
    ) -> Option<Verdict> {
        if spec::being_deleted(pod) || spec::is_terminal_phase(spec::phase(pod)) {
            return None;
        }
        let alive = inboxes.values().filter(|inbox| !inbox.terminating());
        let others: Vec<Arc<Pod>> = alive.map(|inbox| agent.allocations.allocated(&inbox.pod())).collect();
        let admitted = admission::admit(
            &agent.allocations.allocated(pod),
            others.iter().map(|pod| &**pod),
            agent.as_seen_by_admission(&agent.node(), &agent.pressure.current()),
        );
        let Err(Rejection { reason, message }) = admitted else { return None };
        agent.recorder.warning(spec::reference(pod), &reason, message.clone());
        let message = format!("Pod was rejected: {message}");
        let status = PodStatus {
            phase: Some("Failed".to_owned()),
            qos_class: Some(qos::of(pod).as_str().to_owned()),
            reason: Some(reason.clone()),
            message: Some(message.clone()),
            observed_generation: pod.metadata.generation,
            ..PodStatus::default()
        };
        agent.status.set(pod, status, false);
        Some(Verdict { phase: "Failed", reason, message, disruption: false })
    }

    /// Something about the pod changed (its containers, a probe, an object it refers to).
    pub fn wake(&self, uid: &str) {
        if let Some(inbox) = self.inner.inboxes.lock().get(uid) {
            inbox.wake();
        }
    }

    pub fn wake_all(&self) {
        for inbox in self.inner.inboxes.lock().values() {
            inbox.wake();
        }
    }

    pub fn get(&self, uid: &str) -> Option<Arc<Inbox>> {
        self.inner.inboxes.lock().get(uid).cloned()
    }

    /// The pod of this name; the one that is not ending where two share it.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Inbox>> {
        let inboxes = self.inner.inboxes.lock();
        let matching = inboxes.values().filter(|inbox| {
            let pod = inbox.pod();
            spec::namespace(&pod) == namespace && spec::name(&pod) == name
        });
        matching.min_by_key(|inbox| inbox.terminating()).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Inbox>> {
        self.inner.inboxes.lock().values().cloned().collect()
    }

    /// Uids of all pods with a worker.
    pub fn uids(&self) -> std::collections::HashSet<String> {
        self.inner.inboxes.lock().keys().cloned().collect()
    }

    /// Waits until all workers have put down their tools, after the stop signal.
    pub async fn drain(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
