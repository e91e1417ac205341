//! One probe of one container: when it runs, and when its outcome becomes a result.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, Probe};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_runtime::cri::ContainerRuntime;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::manager::OnChange;
use super::results::{ProbeCounts, ProbeKind, ProbeLabels, ProbeResult, ProbeResults};
use super::run::{self, Outcome, Prober, Target};
use super::view::bare_id;
use crate::events::Recorder;
use crate::pod::{restart, spec};
use crate::status::manager::StatusManager;

const MAX_RETRIES: usize = 3;

pub struct Worker {
    pub pod: Arc<Pod>,
    pub container: Container,
    pub kind: ProbeKind,
    pub probe: Probe,
    pub runtime: Arc<dyn ContainerRuntime>,
    pub prober: Arc<dyn Prober>,
    pub results: Arc<ProbeResults>,
    pub status: StatusManager,
    pub recorder: Recorder,
    pub clock: SharedClock,
    pub random: SharedRandom,
    pub agent_start: i64,
    pub counts: Arc<Mutex<ProbeCounts>>,
    pub on_change: Option<OnChange>,
    pub stop: CancellationToken,
    pub now: Arc<Notify>,
}

/// What one worker remembers between ticks.
#[derive(Default)]
struct Memory {
    container_id: String,
    last: Option<bool>,
    run: i32,
    /// Decided for this container: wait for the next one.
    on_hold: bool,
    /// Nothing was probed: the container is not there, or not at this probe's stage.
    waiting: bool,
}

enum Next {
    Wait,
    /// Nothing happens before this much time has passed.
    WaitFor(Duration),
    Stop,
}

impl Worker {
    pub async fn run(self) {
        let period =
            Duration::from_secs(u64::try_from(self.probe.period_seconds.unwrap_or(10)).unwrap_or(10).max(1));
        let uptime = self.clock.now().as_second() - self.agent_start;
        if u64::try_from(uptime).is_ok_and(|uptime| uptime < period.as_secs()) && self.already_ran() {
            // After a restart of the agent all probes would come at once.
            let share = period.mul_f64(self.random.unit());
            tokio::select! {
                () = tokio::time::sleep(share) => {}
                () = self.stop.cancelled() => return,
            }
        }
        let mut memory = Memory::default();
        loop {
            let next = tokio::select! {
                next = self.step(&mut memory) => next,
                () = self.stop.cancelled() => break,
            };
            let wait = match next {
                Next::Stop => break,
                Next::Wait => period,
                Next::WaitFor(delay) => delay.min(period),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Probes out of turn would bring a container to its failure threshold too soon.
                () = self.now.notified(), if memory.waiting || self.kind == ProbeKind::Readiness => {}
                () = self.stop.cancelled() => break,
            }
        }
        if !memory.container_id.is_empty() {
            self.results.remove(&memory.container_id, self.kind);
        }
    }

    fn already_ran(&self) -> bool {
        self.pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"))
    }

    async fn step(&self, memory: &mut Memory) -> Next {
        memory.waiting = true;
        let uid = spec::uid(&self.pod);
        let Some((phase, found, pod_ip)) = self.status.with(uid, |status| {
            let all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
            let found = all.into_iter().find(|c| c.name == self.container.name).cloned();
            (status.phase.clone(), found, status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()))
        }) else {
            return Next::Wait;
        };
        if spec::is_terminal_phase(phase.as_deref()) {
            return Next::Stop;
        }
        let Some(found) = found.filter(|c| c.container_id.as_deref().is_some_and(|id| !id.is_empty())) else {
            return Next::Wait;
        };
        self.meet(&found, memory);
        if memory.on_hold {
            return Next::Wait;
        }
        let state = found.state.clone().unwrap_or_default();
        let Some(running) = state.running else {
            self.set(&memory.container_id, ProbeResult::Failure);
            let ended = state.terminated.map(|t| t.exit_code);
            let again = ended.is_none_or(|code| {
                restart::should_restart(&self.container, spec::restart_policy(&self.pod), code)
            });
            return if again { Next::Wait } else { Next::Stop };
        };
        let started_at = running.started_at.map_or(0, |at| at.0.as_second());
        let age = self.clock.now().as_second() - started_at;
        let delay = i64::from(self.probe.initial_delay_seconds.unwrap_or(0));
        if age < delay {
            return Next::WaitFor(Duration::from_secs(u64::try_from(delay - age).unwrap_or(1)));
        }
        // Startup probes run until the container has started, the others from then on.
        if found.started.unwrap_or(false) == (self.kind == ProbeKind::Startup) {
            return Next::Wait;
        }
        let target =
            Target { container: &self.container, container_id: &memory.container_id.clone(), pod_ip };
        memory.waiting = false;
        let outcome = self.try_probe(target).await;
        self.report(&outcome);
        match outcome {
            Outcome::Success | Outcome::Warning(_) => self.count(memory, true),
            Outcome::Failure(_) => self.count(memory, false),
            // The probe is at fault, not the container.
            Outcome::Error(_) => {}
        }
        Next::Wait
    }

    /// A container we have not seen: its result starts from the initial value, except where it ran before this agent.
    fn meet(&self, found: &ContainerStatus, memory: &mut Memory) {
        let id = bare_id(found);
        if memory.container_id == id {
            return;
        }
        if !memory.container_id.is_empty() {
            self.results.remove(&memory.container_id, self.kind);
        }
        *memory = Memory { container_id: id.to_owned(), waiting: true, ..Memory::default() };
        let running = found.state.as_ref().and_then(|s| s.running.as_ref());
        let started_at = running.and_then(|r| r.started_at.as_ref()).map_or(i64::MAX, |at| at.0.as_second());
        if started_at < self.agent_start - 10 {
            if self.kind == ProbeKind::Startup
                && found.started == Some(true)
                && spec::is_restartable_init(&self.container)
            {
                self.set(id, ProbeResult::Success);
            }
            return;
        }
        let initial = match self.kind {
            ProbeKind::Readiness => ProbeResult::Failure,
            ProbeKind::Liveness => ProbeResult::Success,
            ProbeKind::Startup => ProbeResult::Unknown,
        };
        self.set(id, initial);
    }

    async fn try_probe(&self, target: Target<'_>) -> Outcome {
        let mut outcome = Outcome::Error("not run".to_owned());
        for _ in 0..MAX_RETRIES {
            outcome = run::run(&*self.runtime, &*self.prober, &self.probe, target).await;
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
        }
        outcome
    }

    fn report(&self, outcome: &Outcome) {
        let (kind, name) = (self.kind.as_str(), &self.container.name);
        self.note(outcome);
        let (reason, message) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(text) => ("ProbeWarning", format!("{kind} probe warning: {text}")),
            Outcome::Failure(text) => ("Unhealthy", format!("{kind} probe failed: {text}")),
            Outcome::Error(text) => {
                ("Unhealthy", format!("{kind} probe errored and resulted in unknown state: {text}"))
            }
        };
        if let Some(reference) = spec::container_reference(&self.pod, name) {
            self.recorder.warning(reference, reason, message);
        }
    }

    fn note(&self, outcome: &Outcome) {
        let labels = ProbeLabels {
            namespace: spec::namespace(&self.pod).to_owned(),
            pod: spec::name(&self.pod).to_owned(),
            pod_uid: spec::uid(&self.pod).to_owned(),
            container: self.container.name.clone(),
            kind: self.kind,
        };
        let result = match outcome {
            Outcome::Success | Outcome::Warning(_) => "successful",
            Outcome::Failure(_) => "failed",
            Outcome::Error(_) => "unknown",
        };
        *self.counts.lock().entry((labels, result)).or_default() += 1;
    }

    fn count(&self, memory: &mut Memory, success: bool) {
        memory.run = if memory.last == Some(success) { memory.run.saturating_add(1) } else { 1 };
        memory.last = Some(success);
        let threshold = if success {
            self.probe.success_threshold.unwrap_or(1)
        } else {
            self.probe.failure_threshold.unwrap_or(3)
        };
        if memory.run < threshold {
            return;
        }
        self.set(&memory.container_id, if success { ProbeResult::Success } else { ProbeResult::Failure });
        if self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !success) {
            // The container is decided; probing it while it is stopped only disturbs.
            memory.on_hold = true;
            memory.run = 0;
        }
    }

    fn set(&self, container_id: &str, result: ProbeResult) {
        if self.results.set(container_id, self.kind, result)
            && let Some(on_change) = &self.on_change
        {
            on_change(spec::uid(&self.pod));
        }
    }
}
