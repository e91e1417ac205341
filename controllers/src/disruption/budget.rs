//! The arithmetic of a budget. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};

use crate::{deployment::scaled, error::Error};

const ALLOWED: &str = "DisruptionAllowed";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// Pods there should be.
    pub(super) expected: i32,
    /// Pods that must be healthy.
    pub(super) desired: i32,
    pub(super) healthy: i32,
}

/// Whether the budget is about what the owners ask for, and not only about the pods there are.
pub(super) fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

impl Counts {
    pub(super) fn new(
        spec: &PodDisruptionBudgetSpec,
        pods: usize,
        expected: Option<i32>,
        healthy: usize,
    ) -> Result<Self, Error> {
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let expected = expected.unwrap_or_else(|| count(pods));
        let desired = match (&spec.max_unavailable, &spec.min_available) {
            (Some(most), _) => (expected - scaled(most, expected, true)?).max(0),
            (None, Some(least)) => scaled(least, expected, true)?,
            (None, None) => 0,
        };
        Ok(Self { expected, desired, healthy: count(healthy) })
    }

    /// How many pods may be taken away now.
    pub(super) fn allowed(&self) -> i32 {
        if self.expected <= 0 { 0 } else { (self.healthy - self.desired).max(0) }
    }
}

/// Sets the one condition a budget has.
pub(super) fn condition(
    status: &mut PodDisruptionBudgetStatus,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let value = if reason == "SufficientPods" { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().find(|condition| condition.type_ == ALLOWED && condition.status == value);
    let since = known.map_or(Time(now), |known| known.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != ALLOWED);
    conditions.push(Condition {
        type_: ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: generation,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_allow_what_is_left_over() {
        let number = |number| Some(IntOrString::Int(number));
        let percent = |text: &str| Some(IntOrString::String(text.to_owned()));
        for (least, most, pods, expected, healthy, desired, allowed) in [
            (number(2), None, 3, None, 3, 2, 1),
            (number(2), None, 3, None, 1, 2, 0),
            (percent("50%"), None, 3, Some(5), 5, 3, 2),
            (None, number(1), 5, Some(5), 5, 4, 1),
            (None, percent("30%"), 5, Some(5), 4, 3, 1),
            (None, number(9), 5, Some(5), 5, 0, 5),
            (number(0), None, 0, None, 0, 0, 0),
        ] {
            let spec = PodDisruptionBudgetSpec {
                min_available: least,
                max_unavailable: most,
                ..PodDisruptionBudgetSpec::default()
            };
            let counts = Counts::new(&spec, pods, expected, healthy).unwrap();
            assert_eq!((counts.desired, counts.allowed()), (desired, allowed), "{spec:?}");
        }
    }
}
