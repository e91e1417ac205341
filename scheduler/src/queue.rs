//! The pods that wait: those to be tried now, those that wait a while, and those that wait for something to happen.
//!
//! ```text
//!           add ──► active ──pop──► in flight ──► unschedulable ──event, or 5 minutes──► backing off ──┐
//!                     ▲                  └──bind failed──► backing off ──time──────────────────────────┤
//!                     └────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Config;
use crate::event::Events;
use crate::object::Pod;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    BackingOff,
    Unschedulable,
    /// Held back by its scheduling gates.
    Gated,
    /// Being decided or bound.
    InFlight,
}

#[derive(Debug)]
struct Waiting {
    pod: Arc<Pod>,
    place: Place,
    /// Tells this stay in a heap from earlier ones, whose entries are skipped.
    ticket: u64,
    attempts: u32,
    /// When the pod first came, for fairness among equals.
    arrived: u64,
    /// When the last attempt ended.
    tried: Instant,
    /// What may help, after a failed attempt.
    retry_on: Events,
}

/// Highest priority first, then first come, first served.
type ActiveEntry = (i32, Reverse<u64>, u64, Arc<str>);

#[derive(Debug)]
pub struct Queue {
    config: Config,
    pods: HashMap<Arc<str>, Waiting>,
    active: BinaryHeap<ActiveEntry>,
    backing_off: BinaryHeap<Reverse<(Instant, u64, Arc<str>)>>,
    next_number: u64,
}

impl Queue {
    pub fn new(config: Config) -> Self {
        let (pods, active, backing_off) = Default::default();
        Self { config, pods, active, backing_off, next_number: 0 }
    }

    /// A pod without a node appeared or changed.
    pub fn add_or_update(&mut self, pod: Arc<Pod>, now: Instant) {
        let gated = !pod.scheduling_gates.is_empty();
        if let Some(known) = self.pods.get_mut(&*pod.metadata.uid) {
            let uid: Arc<str> = (*pod.metadata.uid).into();
            let concerns_scheduling = differs(&known.pod, &pod);
            known.pod = pod;
            match (known.place, gated) {
                (Place::Gated, false) => self.activate(&uid),
                (Place::Unschedulable, _)
                    if concerns_scheduling && known.retry_on.intersects(Events::POD_UPDATE) =>
                {
                    self.retry(&uid, now);
                }
                _ => {}
            }
            return;
        }
        let uid: Arc<str> = (*pod.metadata.uid).into();
        let arrived = self.number();
        let (place, retry_on) = (Place::Gated, Events::default());
        let waiting = Waiting { pod, place, ticket: 0, attempts: 0, arrived, tried: now, retry_on };
        self.pods.insert(uid.clone(), waiting);
        if !gated {
            self.activate(&uid);
        }
    }

    /// The pod is gone, or has a node.
    pub fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// The next pod to decide about.
    pub fn pop(&mut self, now: Instant) -> Option<Arc<Pod>> {
        self.release_backed_off(now);
        while let Some((_, _, ticket, uid)) = self.active.pop() {
            let Some(waiting) = self.pods.get_mut(&uid) else { continue };
            if waiting.place == Place::Active && waiting.ticket == ticket {
                waiting.place = Place::InFlight;
                waiting.attempts += 1;
                return Some(waiting.pod.clone());
            }
        }
        None
    }

    /// No node fits; events in `retry_on` may change that.
    pub fn unschedulable(&mut self, uid: &str, retry_on: Events, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = Place::Unschedulable;
            waiting.tried = now;
            waiting.retry_on = retry_on;
        }
    }

    /// The attempt failed for a reason of its own: try again after a pause.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        if let Some(waiting) = self.pods.get_mut(&uid) {
            waiting.tried = now;
        }
        self.retry(&uid, now);
    }

    /// Something happened in the cluster: whoever waits for it is tried again.
    pub fn happened(&mut self, events: Events, now: Instant) {
        if events.is_empty() {
            return;
        }
        self.retry_where(now, |waiting| waiting.retry_on.intersects(events));
    }

    /// Tries again what has waited so long that an event must have been missed.
    pub fn flush_stale(&mut self, now: Instant) {
        let limit = self.config.pod_max_in_unschedulable_pods;
        self.retry_where(now, |waiting| now.duration_since(waiting.tried) >= limit);
    }

    /// When the next pod stops backing off.
    pub fn next_release(&self) -> Option<Instant> {
        self.backing_off.peek().map(|Reverse((at, _, _))| *at)
    }

    fn retry_where(&mut self, now: Instant, which: impl Fn(&Waiting) -> bool) {
        let unschedulable = self.pods.iter().filter(|(_, w)| w.place == Place::Unschedulable && which(w));
        let chosen: Vec<Arc<str>> = unschedulable.map(|(uid, _)| uid.clone()).collect();
        for uid in chosen {
            self.retry(&uid, now);
        }
    }

    fn retry(&mut self, uid: &Arc<str>, now: Instant) {
        let Some(waiting) = self.pods.get(uid) else { return };
        let until = waiting.tried + self.backoff(waiting.attempts);
        if until <= now {
            return self.activate(uid);
        }
        let ticket = self.number();
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = Place::BackingOff;
            waiting.ticket = ticket;
            self.backing_off.push(Reverse((until, ticket, uid.clone())));
        }
    }

    /// The initial pause, doubled with each attempt after the first, up to the longest.
    fn backoff(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(16);
        (self.config.pod_initial_backoff * (1 << doublings)).min(self.config.pod_max_backoff)
    }

    fn activate(&mut self, uid: &Arc<str>) {
        let ticket = self.number();
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.place = Place::Active;
            waiting.ticket = ticket;
            self.active.push((waiting.pod.priority, Reverse(waiting.arrived), ticket, uid.clone()));
        }
    }

    fn release_backed_off(&mut self, now: Instant) {
        while self.next_release().is_some_and(|at| at <= now) {
            let Some(Reverse((_, ticket, uid))) = self.backing_off.pop() else { return };
            let still = self.pods.get(&uid);
            if still.is_some_and(|waiting| waiting.place == Place::BackingOff && waiting.ticket == ticket) {
                self.activate(&uid);
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// Whether a change of the pod itself can change what fits it.
fn differs(before: &Pod, now: &Pod) -> bool {
    before.metadata.labels != now.metadata.labels
        || before.tolerations != now.tolerations
        || before.node_selector != now.node_selector
        || before.required_node_affinity != now.required_node_affinity
        || before.request.exact != now.request.exact
        || before.scheduling_gates != now.scheduling_gates
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, priority: i32) -> Arc<Pod> {
        gated(uid, priority, json!([]))
    }

    fn gated(uid: &str, priority: i32, gates: serde_json::Value) -> Arc<Pod> {
        let spec = json!({"priority": priority, "schedulingGates": gates});
        let pod = json!({"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": spec});
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn queue() -> (Queue, Instant) {
        (Queue::new(Config::default()), Instant::now())
    }

    fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.pop(now).map(|pod| pod.metadata.uid.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn higher_priority_goes_first_and_equals_in_order_of_arrival() {
        let (mut queue, now) = queue();
        for (uid, priority) in [("a", 0), ("b", 0), ("c", 5)] {
            queue.add_or_update(pod(uid, priority), now);
        }
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
        assert_eq!(order, ["c", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_event_that_can_help_brings_a_pod_back_after_its_pause() {
        let (mut queue, now) = queue();
        queue.add_or_update(pod("a", 0), now);
        queue.pop(now).expect("a pod");
        queue.unschedulable("a", Events::NODE_ADD, now);
        queue.happened(Events::NODE_TAINT, now);
        assert_eq!(queue.next_release(), None);
        queue.happened(Events::NODE_ADD, now);
        assert_eq!(popped(&mut queue, now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(queue.next_release(), Some(later));
        assert_eq!(popped(&mut queue, later).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let (mut queue, mut now) = queue();
        queue.add_or_update(pod("a", 0), now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            queue.pop(now).expect("a pod");
            queue.failed("a", now);
            let release = queue.next_release().expect("backing off");
            pauses.push((release - now).as_secs());
            now = release;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn gates_hold_a_pod_until_the_last_is_gone() {
        let (mut queue, now) = queue();
        queue.add_or_update(gated("a", 0, json!([{"name": "x"}])), now);
        queue.happened(Events::NODE_ADD, now);
        assert_eq!(popped(&mut queue, now), None);
        queue.add_or_update(pod("a", 0), now);
        assert_eq!(popped(&mut queue, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn removed_pods_are_never_popped_and_forgotten_ones_come_back_in_time() {
        let (mut queue, now) = queue();
        queue.add_or_update(pod("a", 0), now);
        queue.add_or_update(pod("b", 0), now);
        queue.remove("a");
        assert_eq!(popped(&mut queue, now).as_deref(), Some("b"));
        queue.unschedulable("b", Events::default(), now);
        queue.flush_stale(now + Duration::from_secs(299));
        assert_eq!(queue.next_release(), None);
        let late = now + Duration::from_secs(300);
        queue.flush_stale(late);
        assert_eq!(popped(&mut queue, late).as_deref(), Some("b"));
    }
}
