//! Ending pods before the node itself runs out of memory, disk or processes, and pods that use more storage than they
//! may. Signals, order of victims and words are upstream's eviction manager's.

pub mod limits;
pub mod messages;
pub mod observe;
pub mod rank;
pub mod thresholds;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::agent::Agent;
use crate::images::collect::Collector;
use crate::node;
use crate::pod::spec;
use crate::pod::worker::Inbox;
use crate::pod::workers::Workers;
use crate::stats::{self, Depth, PodUse};
use crate::status::generate::Verdict;
use observe::{Observation, Signal};
use thresholds::Threshold;

pub const REASON: &str = "Evicted";
/// How often the node is looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// After an eviction, its effect is waited for before the next.
const CLEANUP: Duration = Duration::from_secs(30);
/// Grace of a hard eviction.
const IMMEDIATE: Duration = Duration::from_secs(1);
/// Pods of at least this priority are the system's own.
const SYSTEM_CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// A kind of shortage, by the node condition that tells it; in upstream's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shortage {
    Memory,
    Disk,
    Pid,
}

impl Shortage {
    pub fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// What the node is short of now; shared with admission and the node's conditions.
#[derive(Debug, Default)]
pub struct Pressure(Mutex<Vec<Shortage>>);

impl Pressure {
    pub fn current(&self) -> Vec<Shortage> {
        self.0.lock().clone()
    }

    pub fn under(&self, shortage: Shortage) -> bool {
        self.0.lock().contains(&shortage)
    }

    fn set(&self, shortages: Vec<Shortage>) -> bool {
        let mut current = self.0.lock();
        let changed = *current != shortages;
        *current = shortages;
        changed
    }
}

/// Which the node keeps whatever happens.
pub fn is_critical(pod: &Pod) -> bool {
    spec::is_static(pod)
        || spec::is_mirror(pod)
        || spec::spec(pod).priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL_PRIORITY)
}

pub struct Manager {
    agent: Arc<Agent>,
    workers: Workers,
    collector: Arc<Collector>,
    /// The node's status is to be told anew.
    node_changed: Arc<Notify>,
    thresholds: Vec<Threshold>,
    /// Met, with or without grace period, and not yet resolved.
    first_observed: HashMap<Threshold, Timestamp>,
    last_observed: BTreeMap<Shortage, Timestamp>,
}

impl Manager {
    pub fn new(
        agent: Arc<Agent>,
        workers: Workers,
        collector: Arc<Collector>,
        node_changed: Arc<Notify>,
    ) -> Self {
        let thresholds = thresholds::configured(&agent.config);
        Self {
            agent,
            workers,
            collector,
            node_changed,
            thresholds,
            first_observed: HashMap::new(),
            last_observed: BTreeMap::new(),
        }
    }

    /// Looks for ever.
    pub async fn run(mut self) {
        loop {
            let evicted = self.look().await;
            if evicted.is_empty() {
                tokio::time::sleep(PERIOD).await;
                continue;
            }
            let gone = evicted.iter().map(|inbox| ended(inbox));
            // What does not end in time is no reason to stop looking.
            let _ = tokio::time::timeout(CLEANUP, futures::future::join_all(gone)).await;
        }
    }

    async fn look(&mut self) -> Vec<Arc<Inbox>> {
        let observations = observe::node(&self.agent).await;
        let met = self.follow(&observations);
        let over = self.over_their_limits().await;
        if !over.is_empty() {
            return over;
        }
        let Some(worst) = met.into_iter().min_by_key(|threshold| threshold.signal.urgency()) else {
            return Vec::new();
        };
        self.reclaim(&worst, &observations).await.into_iter().collect()
    }

    /// Brings conditions up to date; the thresholds whose grace period is over.
    fn follow(&mut self, observations: &HashMap<Signal, Observation>) -> Vec<Threshold> {
        let now = self.agent.now();
        let met: Vec<Threshold> = self
            .thresholds
            .iter()
            .filter(|threshold| {
                let known = self.first_observed.contains_key(*threshold);
                observations.get(&threshold.signal).is_some_and(|seen| threshold.is_met(*seen, known))
            })
            .cloned()
            .collect();
        self.first_observed.retain(|threshold, _| met.contains(threshold));
        for threshold in &met {
            self.first_observed.entry(threshold.clone()).or_insert(now);
            self.last_observed.insert(threshold.signal.shortage(), now);
        }
        let period = signed(self.agent.config.eviction_pressure_transition_period);
        self.last_observed.retain(|_, last| now.duration_since(*last) <= period);
        if self.agent.pressure.set(self.last_observed.keys().copied().collect()) {
            self.node_changed.notify_one();
        }
        let over = |threshold: &Threshold| {
            let since = self.first_observed.get(threshold).copied().unwrap_or(now);
            now.duration_since(since) >= signed(threshold.grace)
        };
        met.into_iter().filter(over).collect()
    }

    /// Pods that use more than their own limits on storage.
    async fn over_their_limits(&self) -> Vec<Arc<Inbox>> {
        let mut evicted = Vec::new();
        for inbox in self.active() {
            if !limits::has_any(&inbox.pod()) {
                continue;
            }
            let Some(used) = stats::pod(&self.agent, &inbox, Depth::Everything).await else { continue };
            if let Some(message) = limits::exceeded(&used)
                && self.evict(&inbox, message, IMMEDIATE, false)
            {
                evicted.push(inbox);
            }
        }
        evicted
    }

    /// Frees what nobody uses, else ends the pod that comes first.
    async fn reclaim(
        &self,
        threshold: &Threshold,
        observations: &HashMap<Signal, Observation>,
    ) -> Option<Arc<Inbox>> {
        let resource = threshold.signal.resource();
        let about = node::reference(&self.agent.config.node_name);
        let message = format!("Attempting to reclaim {resource}");
        self.agent.recorder.warning(about, "EvictionThresholdMet", message);
        if threshold.signal.shortage() == Shortage::Disk {
            if let Err(error) = self.collector.remove_unused().await {
                tracing::warn!(%error, "cannot remove unused images");
            }
            let after = observe::node(&self.agent).await;
            let seen = after.get(&threshold.signal);
            if seen.is_some_and(|seen| !threshold.is_met(*seen, true)) {
                return None;
            }
        }
        let used = stats::pods(&self.agent, &self.workers, Depth::Everything).await;
        let order =
            rank::order(self.active().iter().map(|inbox| inbox.pod()).collect(), &used, threshold.signal);
        let by_uid: HashMap<&str, &PodUse> = used.iter().map(|used| (spec::uid(&used.pod), used)).collect();
        for pod in order {
            let Some(inbox) = self.workers.get(spec::uid(&pod)) else { continue };
            let seen = observations.get(&threshold.signal);
            let used = by_uid.get(spec::uid(&pod)).copied();
            let message = messages::shortage(threshold, seen, &pod, used);
            let grace = self.grace(threshold, &pod);
            if self.evict(&inbox, message, grace, true) {
                return Some(inbox);
            }
        }
        tracing::warn!(%resource, "unable to evict any pods from the node");
        None
    }

    fn grace(&self, threshold: &Threshold, pod: &Pod) -> Duration {
        if threshold.grace.is_zero() {
            return IMMEDIATE;
        }
        let most = self.agent.config.eviction_max_pod_grace_period;
        let own = spec::spec(pod).termination_grace_period_seconds;
        let own = own.map_or(most, |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        own.min(most).max(IMMEDIATE)
    }

    /// Pods that something of may run.
    fn active(&self) -> Vec<Arc<Inbox>> {
        self.workers.all().into_iter().filter(|inbox| !inbox.terminating()).collect()
    }

    fn evict(&self, inbox: &Inbox, message: String, grace: Duration, disruption: bool) -> bool {
        let pod = inbox.pod();
        if is_critical(&pod) {
            tracing::warn!(pod = %spec::display(&pod), "cannot evict a critical pod");
            return false;
        }
        self.agent.recorder.warning(spec::reference(&pod), REASON, message.clone());
        let verdict = Verdict { phase: "Failed", reason: REASON.to_owned(), message, disruption };
        inbox.evict(verdict, grace);
        true
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Waits until nothing of the pod runs.
async fn ended(inbox: &Inbox) {
    let mut seen = inbox.follow();
    // A worker that is gone has ended its pod.
    let _ = seen.wait_for(|observed| observed.running().next().is_none()).await;
}
