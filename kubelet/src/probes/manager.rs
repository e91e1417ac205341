//! Which probes run: one worker per probe of each container of each live pod.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_runtime::cri::ContainerRuntime;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::results::{ProbeCounts, ProbeKind, ProbeResults};
use super::run::Prober;
use super::view::ProbeView;
use super::worker::Worker;
use crate::events::Recorder;
use crate::pod::spec;
use crate::status::manager::StatusManager;

/// Called with a pod's uid when one of its results changed.
pub type OnChange = Arc<dyn Fn(&str) + Send + Sync>;

struct Handle {
    stop: CancellationToken,
    /// Asks for a probe now instead of at the next tick.
    now: Arc<Notify>,
}

type Key = (String, String, ProbeKind);

pub struct ProbeManager {
    pub results: Arc<ProbeResults>,
    runtime: Arc<dyn ContainerRuntime>,
    prober: Arc<dyn Prober>,
    status: StatusManager,
    recorder: Recorder,
    clock: SharedClock,
    random: SharedRandom,
    agent_start: i64,
    workers: Arc<Mutex<HashMap<Key, Handle>>>,
    counts: Arc<Mutex<ProbeCounts>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    on_change: std::sync::OnceLock<OnChange>,
}

/// The probe of a kind that a container has.
pub fn probe_of(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Startup => container.startup_probe.as_ref(),
    }
}

impl ProbeManager {
    #[allow(clippy::too_many_arguments, reason = "built once, from the agent's parts")]
    pub fn new(
        runtime: Arc<dyn ContainerRuntime>,
        prober: Arc<dyn Prober>,
        status: StatusManager,
        recorder: Recorder,
        clock: SharedClock,
        random: SharedRandom,
        stop: CancellationToken,
    ) -> Self {
        Self {
            results: Arc::default(),
            runtime,
            prober,
            status,
            recorder,
            agent_start: clock.now().as_second(),
            clock,
            random,
            workers: Arc::default(),
            counts: Arc::default(),
            tasks: TaskTracker::new(),
            stop,
            on_change: std::sync::OnceLock::new(),
        }
    }

    /// Whom to tell of changed results; said once, before the first pod.
    pub fn tell(&self, on_change: OnChange) {
        if self.on_change.set(on_change).is_err() {
            tracing::error!("probe results already have a listener");
        }
    }

    /// Starts workers for the probes the pod has and that do not run yet.
    pub fn add_pod(&self, pod: &Arc<Pod>) {
        let sidecars = spec::init_containers(pod).iter().filter(|c| spec::is_restartable_init(c));
        for container in spec::containers(pod).iter().chain(sidecars) {
            for kind in ProbeKind::ALL {
                if let Some(probe) = probe_of(container, kind) {
                    self.add(pod, container, kind, probe);
                }
            }
        }
    }

    fn add(&self, pod: &Arc<Pod>, container: &Container, kind: ProbeKind, probe: &Probe) {
        let key: Key = (spec::uid(pod).to_owned(), container.name.clone(), kind);
        let mut workers = self.workers.lock();
        if workers.contains_key(&key) {
            return;
        }
        let (stop, now) = (self.stop.child_token(), Arc::new(Notify::new()));
        let worker = Worker {
            pod: Arc::clone(pod),
            container: container.clone(),
            kind,
            probe: probe.clone(),
            runtime: Arc::clone(&self.runtime),
            prober: Arc::clone(&self.prober),
            results: Arc::clone(&self.results),
            status: self.status.clone(),
            recorder: self.recorder.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            agent_start: self.agent_start,
            counts: Arc::clone(&self.counts),
            on_change: self.on_change.get().cloned(),
            stop: stop.clone(),
            now: Arc::clone(&now),
        };
        workers.insert(key.clone(), Handle { stop: stop.clone(), now });
        let registry = Arc::clone(&self.workers);
        self.tasks.spawn(async move {
            worker.run().await;
            // Cancelled workers were taken out by whoever cancelled them, and a successor may be there.
            if !stop.is_cancelled() {
                registry.lock().remove(&key);
            }
        });
    }

    /// The pod is going: liveness and startup no longer matter, readiness does until the end.
    pub fn stop_liveness_and_startup(&self, uid: &str) {
        self.remove(uid, |kind| kind != ProbeKind::Readiness);
    }

    pub fn remove_pod(&self, uid: &str) {
        self.remove(uid, |_| true);
        self.counts.lock().retain(|(labels, _), _| labels.pod_uid != uid);
    }

    /// Outcomes so far, of pods that are here.
    pub fn counts(&self) -> ProbeCounts {
        self.counts.lock().clone()
    }

    fn remove(&self, uid: &str, which: impl Fn(ProbeKind) -> bool) {
        self.workers.lock().retain(|(pod, _, kind), handle| {
            let goes = pod == uid && which(*kind);
            if goes {
                handle.stop.cancel();
            }
            !goes
        });
    }

    /// For computing a pod's status. Readiness probes of containers that just started are asked to run at once.
    pub fn view(&self, uid: &str) -> ProbeView<'_> {
        let workers = self.workers.lock();
        let of_pod = workers.keys().filter(|(pod, ..)| pod == uid);
        ProbeView {
            results: &self.results,
            workers: of_pod.map(|(_, container, kind)| (container.clone(), *kind)).collect(),
            agent_start: self.agent_start,
        }
    }

    /// The container's status changed: probes that wait for it, and readiness, need not wait for their tick.
    pub fn nudge(&self, uid: &str, container: &str) {
        let workers = self.workers.lock();
        for kind in ProbeKind::ALL {
            if let Some(handle) = workers.get(&(uid.to_owned(), container.to_owned(), kind)) {
                handle.now.notify_one();
            }
        }
    }

    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
