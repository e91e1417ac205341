//! The pods that wait: those to be tried now, those that wait a while, and those that wait for something to happen.
//!
//! ```text
//!           add ──► active ──pop──► in flight ──► unschedulable ──event, or 5 minutes──► backing off ──┐
//!                     ▲                  └──bind failed──► backing off ──time──────────────────────────┤
//!                     └────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! When nothing is active, pods that back off because they found no node are tried before their time: there is
//! nothing better to do.

mod backoff;
mod waiting_for;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Config;
use crate::event::Kinds;
use crate::metrics::{self, Sizes};
use crate::object::Pod;
use backoff::Backoff;
use waiting_for::WaitingFor;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    /// Until then; `early` if it may be tried before.
    BackingOff {
        until: Instant,
        early: bool,
    },
    Unschedulable,
    /// Held back before it is even tried.
    Gated,
    /// Being decided or bound.
    InFlight,
}

/// Upstream's names of what brings pods into a queue, besides events of the cluster.
mod cause {
    pub const ADDED: &str = "UnschedulablePodAdd";
    pub const UPDATED: &str = "UnschedulablePodUpdate";
    pub const UNGATED: &str = "UnschedulablePodUpdatePodSchedulingGatesEliminated";
    pub const FAILED: &str = "ScheduleAttemptFailure";
    pub const BACKED_OFF: &str = "BackoffComplete";
    pub const EARLY: &str = "PopFromBackoffQ";
    pub const TIMEOUT: &str = "UnschedulableTimeout";
    pub const FORCED: &str = "ForceActivate";
}

/// One of a pod's turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    pub began: Instant,
    /// When the first one began.
    pub first: Instant,
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<Pod>,
    place: Place,
    /// The last one.
    attempt: Option<Attempt>,
    /// Failed attempts: those that found no node, and those in a row that met an error.
    unschedulable: u32,
    errors: u32,
    /// When the pod first came, for fairness among equals.
    arrived: u64,
    /// When the last attempt ended.
    tried: Instant,
    /// The plugins that said no.
    rejectors: Vec<&'static str>,
    /// What may help, by kind of event.
    retry_on: Kinds,
    /// Room is being made for it: events are only noted.
    preempting: bool,
    helped_meanwhile: bool,
}

impl Waiting {
    /// Highest priority first, then first come, first served.
    fn rank(&self) -> Rank {
        (Reverse(self.pod.priority), self.arrived)
    }
}

type Rank = (Reverse<i32>, u64);

#[derive(Debug)]
pub struct Queue {
    config: Config,
    backoff: Backoff,
    pods: HashMap<Arc<str>, Waiting>,
    active: BTreeSet<(Rank, Arc<str>)>,
    backing_off: BTreeSet<(Instant, Rank, Arc<str>)>,
    waiting_for: WaitingFor,
    /// How many are at these places.
    unschedulable: usize,
    gated: usize,
    next_number: u64,
}

impl Queue {
    pub fn new(config: Config) -> Self {
        let backoff = Backoff { initial: config.pod_initial_backoff, max: config.pod_max_backoff };
        Self {
            config,
            backoff,
            pods: HashMap::new(),
            active: BTreeSet::new(),
            backing_off: BTreeSet::new(),
            waiting_for: WaitingFor::default(),
            unschedulable: 0,
            gated: 0,
            next_number: 0,
        }
    }

    /// How many pods wait where.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            active: self.active.len(),
            backing_off: self.backing_off.len(),
            unschedulable: self.unschedulable,
            gated: self.gated,
        }
    }

    /// The pod's last turn; `None` if it had none yet.
    pub fn attempt(&self, uid: &str) -> Option<Attempt> {
        self.pods.get(uid)?.attempt
    }

    /// A pod without a node appeared or changed. `gated` says that it must not be tried; `helps` whether its own
    /// change may turn the no of these plugins into a yes.
    pub fn add_or_update(
        &mut self,
        pod: Arc<Pod>,
        gated: bool,
        now: Instant,
        helps: impl FnOnce(&Arc<Pod>, &[&'static str]) -> bool,
    ) {
        let uid: Arc<str> = (*pod.metadata.uid).into();
        let Some(known) = self.pods.get_mut(&uid) else {
            self.insert(uid, pod, gated, now);
            return;
        };
        let before = std::mem::replace(&mut known.pod, pod);
        let place = known.place;
        if place == Place::Active && before.priority != known.pod.priority {
            let (old, new) = ((Reverse(before.priority), known.arrived), known.rank());
            self.active.remove(&(old, uid.clone()));
            self.active.insert((new, uid));
            return;
        }
        match (place, gated) {
            (Place::Gated, false) => self.activate(&uid, cause::UNGATED),
            (Place::Unschedulable, _) if helps(&before, &known.rejectors) => {
                self.retry(&uid, now, cause::UPDATED);
            }
            _ => {}
        }
    }

    fn insert(&mut self, uid: Arc<str>, pod: Arc<Pod>, gated: bool, now: Instant) {
        self.next_number += 1;
        let waiting = Waiting {
            pod,
            place: Place::Gated,
            attempt: None,
            unschedulable: 0,
            errors: 0,
            arrived: self.next_number,
            tried: now,
            rejectors: Vec::new(),
            retry_on: Kinds::default(),
            preempting: false,
            helped_meanwhile: false,
        };
        self.pods.insert(uid.clone(), waiting);
        self.gated += 1;
        if gated { metrics::came("unschedulable", cause::ADDED) } else { self.activate(&uid, cause::ADDED) }
    }

    pub fn knows(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// The pod is gone, or has a node.
    pub fn remove(&mut self, uid: &str) {
        if let Some((uid, _)) = self.pods.get_key_value(uid) {
            let uid = uid.clone();
            self.leave(&uid);
            self.pods.remove(&uid);
        }
    }

    /// The next pod to decide about.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.release_backed_off(now);
        let next = self.active.first().map(|(_, uid)| uid.clone());
        let uid = next.or_else(|| {
            let early = self.first_that_may_be_early()?;
            metrics::came("active", cause::EARLY);
            Some(early)
        })?;
        self.leave(&uid);
        let waiting = self.pods.get_mut(&uid)?;
        let (number, first) = waiting.attempt.map_or((0, now), |last| (last.number, last.first));
        waiting.attempt = Some(Attempt { number: number + 1, began: now, first });
        Some(waiting.pod.clone())
    }

    fn first_that_may_be_early(&self) -> Option<Arc<str>> {
        let may = |uid: &Arc<str>| {
            let waiting = self.pods.get(uid);
            waiting.is_some_and(|waiting| matches!(waiting.place, Place::BackingOff { early: true, .. }))
        };
        self.backing_off.iter().map(|(_, _, uid)| uid).find(|uid| may(uid)).cloned()
    }

    /// No node fits, for these plugins; events in `retry_on` may change that.
    pub fn unschedulable(
        &mut self,
        uid: &str,
        rejectors: Vec<&'static str>,
        retry_on: Kinds,
        preempting: bool,
        now: Instant,
    ) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        self.leave(&uid);
        if let Some(waiting) = self.pods.get_mut(&uid) {
            waiting.place = Place::Unschedulable;
            self.unschedulable += 1;
            metrics::came("unschedulable", cause::FAILED);
            waiting.unschedulable += 1;
            waiting.errors = 0;
            waiting.tried = now;
            waiting.rejectors = rejectors;
            waiting.retry_on = retry_on;
            waiting.preempting = preempting;
            waiting.helped_meanwhile = false;
            self.waiting_for.add(&uid, retry_on);
        }
    }

    /// Room has been made, or could not be.
    pub fn preempted(&mut self, uid: &str, worked: bool, now: Instant) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else { return };
        waiting.preempting = false;
        if waiting.place == Place::Unschedulable && (waiting.helped_meanwhile || !worked) {
            let cause = if worked { Kinds::POD_DELETE.label() } else { cause::FORCED };
            self.retry(&uid, now, cause);
        }
    }

    /// The attempt failed for a reason of its own: try again after a pause.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        self.leave(&uid);
        if let Some(waiting) = self.pods.get_mut(&uid) {
            waiting.errors += 1;
            waiting.tried = now;
            let until = now + self.backoff.after(waiting.errors);
            self.back_off(&uid, until, false, cause::FAILED);
        }
    }

    /// Something happened in the cluster: whoever `helps` says it for is tried again.
    pub fn happened(&mut self, kinds: Kinds, now: Instant, helps: impl Fn(&Pod, &[&'static str]) -> bool) {
        let mut chosen: Vec<Arc<str>> = Vec::new();
        for uid in self.waiting_for.whom(kinds) {
            let Some(waiting) = self.pods.get_mut(&uid) else { continue };
            if !helps(&waiting.pod, &waiting.rejectors) {
                continue;
            }
            if waiting.preempting { waiting.helped_meanwhile = true } else { chosen.push(uid) }
        }
        for uid in chosen {
            self.retry(&uid, now, kinds.label());
        }
    }

    /// Tries again what has waited so long that an event must have been missed.
    pub fn flush_stale(&mut self, now: Instant) {
        let limit = self.config.pod_max_in_unschedulable_pods;
        let stale = |waiting: &Waiting| {
            waiting.place == Place::Unschedulable
                && !waiting.preempting
                && now.duration_since(waiting.tried) >= limit
        };
        let chosen: Vec<_> =
            self.pods.iter().filter(|(_, waiting)| stale(waiting)).map(|(uid, _)| uid.clone()).collect();
        for uid in chosen {
            self.retry(&uid, now, cause::TIMEOUT);
        }
    }

    /// When the next pod stops backing off.
    pub fn next_release(&self) -> Option<Instant> {
        self.backing_off.first().map(|(at, _, _)| *at)
    }

    fn retry(&mut self, uid: &Arc<str>, now: Instant, cause: &str) {
        self.leave(uid);
        let Some(waiting) = self.pods.get(uid) else { return };
        let until = waiting.tried + self.backoff.after(waiting.unschedulable);
        if until <= now { self.activate(uid, cause) } else { self.back_off(uid, until, true, cause) }
    }

    fn activate(&mut self, uid: &Arc<str>, cause: &str) {
        self.leave(uid);
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = Place::Active;
            self.active.insert((waiting.rank(), uid.clone()));
            metrics::came("active", cause);
        }
    }

    fn back_off(&mut self, uid: &Arc<str>, until: Instant, early: bool, cause: &str) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = Place::BackingOff { until, early };
            self.backing_off.insert((until, waiting.rank(), uid.clone()));
            metrics::came("backoff", cause);
        }
    }

    /// Takes a pod out of wherever it waits.
    fn leave(&mut self, uid: &Arc<str>) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        match std::mem::replace(&mut waiting.place, Place::InFlight) {
            Place::Active => {
                self.active.remove(&(waiting.rank(), uid.clone()));
            }
            Place::BackingOff { until, .. } => {
                self.backing_off.remove(&(until, waiting.rank(), uid.clone()));
            }
            Place::Unschedulable => {
                self.unschedulable -= 1;
                self.waiting_for.remove(uid, waiting.retry_on);
            }
            Place::Gated => self.gated -= 1,
            Place::InFlight => {}
        }
    }

    fn release_backed_off(&mut self, now: Instant) {
        while let Some((at, _, uid)) = self.backing_off.first().cloned() {
            if at > now {
                return;
            }
            self.activate(&uid, cause::BACKED_OFF);
        }
    }
}

#[cfg(test)]
mod tests;
