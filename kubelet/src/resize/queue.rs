//! Wishes that wait for room on the node, and who is heard first.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::{Mutex, MutexGuard};

use super::messages;
use crate::agent::Agent;
use crate::lifecycle::admission::{self, Rejection};
use crate::pod::spec;
use crate::resources::pod::{Which, total};
use crate::status::qos::{self, QosClass};

/// Uids of pods whose spec asks for other amounts than they were admitted with.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<HashSet<String>>,
    /// One look at all wishes at a time: two must not be promised the same room.
    turn: Mutex<()>,
}

impl Queue {
    pub fn push(&self, uid: &str) {
        self.waiting.lock().insert(uid.to_owned());
    }

    pub fn forget(&self, uid: &str) {
        self.waiting.lock().remove(uid);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    pub fn waits(&self, uid: &str) -> bool {
        self.waiting.lock().contains(uid)
    }

    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }
}

/// Those that ask for no more first; then by priority, by class, by how long they have waited.
pub fn sort(agent: &Agent, pods: &mut [Arc<Pod>]) {
    pods.sort_by_cached_key(|pod| {
        let increases = increases(&agent.allocations.allocated(pod), pod);
        let priority = spec::spec(pod).priority.unwrap_or(0);
        let guaranteed = qos::of(pod) == QosClass::Guaranteed;
        let since = agent.resizes.pending_since(spec::uid(pod)).map_or(Timestamp::MAX, |time| time.0);
        (increases, Reverse(priority), Reverse(guaranteed), since)
    });
}

fn increases(before: &Pod, after: &Pod) -> bool {
    let (before, after) = (total(before, Which::Requests), total(after, Which::Requests));
    ["cpu", "memory"].iter().any(|name| after.get(*name) > before.get(*name))
}

/// Admits one wish, or notes why it has to wait; `true` when the pod's worker has news.
pub fn consider<'a>(agent: &Agent, pod: &Pod, others: impl Iterator<Item = &'a Pod> + Clone) -> bool {
    let (uid, now) = (spec::uid(pod), Time(agent.now()));
    if !agent.allocations.differs(pod) {
        agent.resize_queue.forget(uid);
        return agent.resizes.clear_pending(uid);
    }
    match admission::admit(pod, others, agent.as_seen_by_admission(&agent.node(), &[])) {
        Ok(()) => {
            agent.allocations.allocate(pod);
            agent.resize_queue.forget(uid);
            agent.resizes.clear_pending(uid);
            // Errors of an earlier resize are history.
            agent.resizes.clear_in_progress(uid);
            agent.resizes.set_in_progress(pod, None, &now);
            agent.recorder.normal(spec::reference(pod), "ResizeStarted", messages::started(pod));
            true
        }
        Err(Rejection { reason, message }) => {
            let Some(told) = agent.resizes.set_pending(pod, &reason, message.clone(), &now) else {
                return false;
            };
            let text = messages::pending(pod, &reason, &message);
            agent.recorder.warning(spec::reference(pod), &format!("Resize{told}"), text);
            true
        }
    }
}
