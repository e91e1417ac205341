//! PodResizePending and PodResizeInProgress of each pod. When they change and what survives a change is upstream's.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;

use crate::pod::spec;

pub const PENDING: &str = "PodResizePending";
pub const IN_PROGRESS: &str = "PodResizeInProgress";
/// The node has no room now.
pub const DEFERRED: &str = "Deferred";
/// The node will never have room.
pub const INFEASIBLE: &str = "Infeasible";
pub const ERROR: &str = "Error";

#[derive(Debug, Clone, Default)]
struct State {
    pending: Option<PodCondition>,
    in_progress: Option<PodCondition>,
}

/// By pod uid.
#[derive(Debug, Default)]
pub struct ResizeConditions(Mutex<HashMap<String, State>>);

impl ResizeConditions {
    /// Takes up what an earlier agent told the API.
    pub fn adopt(&self, pod: &Pod) {
        let told = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let find = |kind: &str| told.iter().find(|condition| condition.type_ == kind).cloned();
        let state = State { pending: find(PENDING), in_progress: find(IN_PROGRESS) };
        if state.pending.is_some() || state.in_progress.is_some() {
            self.0.lock().insert(spec::uid(pod).to_owned(), state);
        }
    }

    /// The pod's conditions, for its status.
    pub fn of(&self, uid: &str) -> Vec<PodCondition> {
        let states = self.0.lock();
        let state = states.get(uid);
        state.into_iter().flat_map(|s| s.pending.iter().chain(&s.in_progress)).cloned().collect()
    }

    pub fn pending_since(&self, uid: &str) -> Option<Time> {
        self.0.lock().get(uid)?.pending.as_ref()?.last_transition_time.clone()
    }

    /// The wish has to wait. Every reason but infeasible is told as deferred; `Some` with the reason when that is news.
    pub fn set_pending(&self, pod: &Pod, reason: &str, message: String, now: &Time) -> Option<&'static str> {
        let reason = if reason == INFEASIBLE { INFEASIBLE } else { DEFERRED };
        let mut states = self.0.lock();
        let state = states.entry(spec::uid(pod).to_owned()).or_default();
        let generation = pod.metadata.generation;
        let news = state.pending.as_ref().is_none_or(|before| {
            before.reason.as_deref() != Some(reason) || before.observed_generation != generation
        });
        state.pending = Some(updated(PENDING, state.pending.as_ref(), reason, message, generation, now));
        news.then_some(reason)
    }

    /// `true` when there was something to clear.
    pub fn clear_pending(&self, uid: &str) -> bool {
        self.0.lock().get_mut(uid).is_some_and(|state| state.pending.take().is_some())
    }

    /// What was allocated is not yet in force. The generation of the first word stays, and an error stays until
    /// another error or a new allocation; `Some` with that generation when something changed.
    pub fn set_in_progress(&self, pod: &Pod, error: Option<String>, now: &Time) -> Option<i64> {
        let mut states = self.0.lock();
        let state = states.entry(spec::uid(pod).to_owned()).or_default();
        let before = state.in_progress.as_ref();
        let (reason, message) = match error {
            Some(message) => (ERROR.to_owned(), message),
            None => before
                .map(|c| (c.reason.clone().unwrap_or_default(), c.message.clone().unwrap_or_default()))
                .unwrap_or_default(),
        };
        let generation = match before {
            Some(before) => before.observed_generation,
            None => pod.metadata.generation,
        };
        let same = before.is_some_and(|before| {
            before.reason.as_deref().unwrap_or_default() == reason
                && before.message.as_deref().unwrap_or_default() == message
        });
        if same {
            return None;
        }
        state.in_progress = Some(updated(IN_PROGRESS, before, &reason, message, generation, now));
        Some(generation.unwrap_or(0))
    }

    /// The generation whose resize was under way.
    pub fn clear_in_progress(&self, uid: &str) -> Option<i64> {
        let cleared = self.0.lock().get_mut(uid)?.in_progress.take()?;
        Some(cleared.observed_generation.unwrap_or(0))
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// A condition that keeps the time of its transition while its reason stays.
fn updated(
    kind: &str,
    before: Option<&PodCondition>,
    reason: &str,
    message: String,
    generation: Option<i64>,
    now: &Time,
) -> PodCondition {
    let same = before.filter(|before| before.reason.as_deref().unwrap_or_default() == reason);
    PodCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        message: Some(message).filter(|message| !message.is_empty()),
        last_probe_time: Some(now.clone()),
        last_transition_time: same
            .and_then(|before| before.last_transition_time.clone())
            .or_else(|| Some(now.clone())),
        observed_generation: generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("in range"))
    }

    fn pod(generation: i64) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some("u".into());
        pod.metadata.generation = Some(generation);
        pod
    }

    #[test]
    fn a_deferred_resize_is_news_once_per_generation() {
        let conditions = ResizeConditions::default();
        assert_eq!(conditions.set_pending(&pod(2), "OutOfcpu", "full".into(), &at(1)), Some(DEFERRED));
        assert_eq!(conditions.set_pending(&pod(2), "OutOfmemory", "full".into(), &at(2)), None);
        assert_eq!(conditions.pending_since("u"), Some(at(1)));
        assert_eq!(conditions.set_pending(&pod(3), "OutOfcpu", "full".into(), &at(3)), Some(DEFERRED));
        assert!(conditions.clear_pending("u"));
        assert!(!conditions.clear_pending("u"));
    }

    #[test]
    fn an_error_stays_with_the_generation_it_is_about() {
        let conditions = ResizeConditions::default();
        assert_eq!(conditions.set_in_progress(&pod(2), None, &at(1)), Some(2));
        assert_eq!(conditions.set_in_progress(&pod(3), Some("no".into()), &at(2)), Some(2));
        assert_eq!(conditions.set_in_progress(&pod(3), None, &at(3)), None);
        let told = &conditions.of("u")[0];
        assert_eq!((told.reason.as_deref(), told.message.as_deref()), (Some(ERROR), Some("no")));
        assert_eq!(conditions.clear_in_progress("u"), Some(2));
        assert_eq!(conditions.clear_in_progress("u"), None);
    }
}
