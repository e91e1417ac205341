//! Holding a wished-for number of replicas back as an autoscaler's rules say. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Upstream's `--horizontal-pod-autoscaler-downscale-stabilization`.
const DOWNSCALE_STABILIZATION: i32 = 300;
/// No window and no policy reaches further back.
const MEMORY: SignedDuration = SignedDuration::from_hours(1);

/// What was wished for and done about one target.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    wishes: Vec<(Timestamp, i32)>,
    /// How many replicas were added, or removed if below zero.
    changes: Vec<(Timestamp, i32)>,
}

/// Between which numbers a target may be, and where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) current: i32,
    pub(super) least: i32,
    pub(super) most: i32,
}

/// What is left of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) replicas: i32,
    /// Reason and message of the condition AbleToScale.
    pub(super) able: (&'static str, &'static str),
    /// Whether the wish was cut, and reason and message of the condition ScalingLimited.
    pub(super) limited: (bool, &'static str, &'static str),
}

const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const HELD_UP: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const HELD_DOWN: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);

impl History {
    /// The first wish is what the target had: before it was watched nobody asked for less.
    pub(super) fn begin(&mut self, current: i32, now: Timestamp) {
        if self.wishes.is_empty() {
            self.wishes.push((now, current));
        }
    }

    pub(super) fn changed(&mut self, by: i32, now: Timestamp) {
        self.changes.push((now, by));
    }

    fn wished(&mut self, wish: i32, now: Timestamp) {
        let recent = |at: &Timestamp| now.duration_since(*at) <= MEMORY;
        self.wishes.retain(|(at, _)| recent(at));
        self.changes.retain(|(at, _)| recent(at));
        self.wishes.push((now, wish));
    }

    fn wishes_within(&self, seconds: i32, now: Timestamp) -> impl Iterator<Item = i32> {
        let window = SignedDuration::from_secs(seconds.into());
        self.wishes.iter().filter(move |(at, _)| now.duration_since(*at) < window).map(|(_, wish)| *wish)
    }

    /// How many replicas a target had when a period began.
    fn replicas_before(&self, seconds: i32, current: i32, now: Timestamp) -> i32 {
        let period = SignedDuration::from_secs(seconds.into());
        let recent = self.changes.iter().filter(|(at, _)| now.duration_since(*at) < period);
        current - recent.map(|(_, by)| by).sum::<i32>()
    }

    /// Holds a wish back by the rules, or by the simple ones where there are none.
    pub(super) fn decide(
        &mut self,
        wish: i32,
        range: Range,
        behavior: Option<&HorizontalPodAutoscalerBehavior>,
        now: Timestamp,
    ) -> Decision {
        let decision = match behavior {
            None => self.decide_simply(wish, range, now),
            Some(behavior) => self.decide_by_rules(wish, range, behavior, now),
        };
        self.wished(wish, now);
        decision
    }

    fn decide_simply(&self, wish: i32, range: Range, now: Timestamp) -> Decision {
        let held = self.wishes_within(DOWNSCALE_STABILIZATION, now).fold(wish, i32::max);
        let able = if held == wish { READY } else { HELD_UP };
        let fastest = range.current.saturating_mul(2).max(4);
        let (most, why) = if range.most > fastest { (fastest, TOO_FAST_UP) } else { (range.most, TOO_MANY) };
        let (replicas, limit) = if held < range.least {
            (range.least, TOO_FEW)
        } else if held > most {
            (most, why)
        } else {
            (held, WITHIN)
        };
        Decision { replicas, able, limited: (replicas != held, limit.0, limit.1) }
    }

    fn decide_by_rules(
        &self,
        wish: i32,
        range: Range,
        behavior: &HorizontalPodAutoscalerBehavior,
        now: Timestamp,
    ) -> Decision {
        let (up, down) = (Rules::up(behavior.scale_up.as_ref()), Rules::down(behavior.scale_down.as_ref()));
        let lowest = self.wishes_within(up.window, now).fold(wish, i32::min);
        let highest = self.wishes_within(down.window, now).fold(wish, i32::max);
        let held = range.current.max(lowest).min(highest);
        let able = match held == wish {
            true => READY,
            false if wish >= range.current => HELD_DOWN,
            false => HELD_UP,
        };
        let (replicas, limit) = self.limit(held, range, &up, &down, now);
        Decision { replicas, able, limited: (replicas != held, limit.0, limit.1) }
    }

    fn limit(
        &self,
        wish: i32,
        range: Range,
        up: &Rules<'_>,
        down: &Rules<'_>,
        now: Timestamp,
    ) -> (i32, (&'static str, &'static str)) {
        if wish > range.current {
            let fastest = up.limit(range.current, Direction::Up, |seconds| {
                self.replicas_before(seconds, range.current, now)
            });
            let fastest = fastest.max(range.current);
            let (most, why) =
                if range.most > fastest { (fastest, TOO_FAST_UP) } else { (range.most, TOO_MANY) };
            if wish > most {
                return (most, why);
            }
        } else if wish < range.current {
            let fastest = down.limit(range.current, Direction::Down, |seconds| {
                self.replicas_before(seconds, range.current, now)
            });
            let fastest = fastest.min(range.current);
            let (least, why) =
                if range.least < fastest { (fastest, TOO_FAST_DOWN) } else { (range.least, TOO_FEW) };
            if wish < least {
                return (least, why);
            }
        }
        (wish, WITHIN)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// The rules of one direction, with what the API fills in where nothing is said.
struct Rules<'a> {
    window: i32,
    select: &'a str,
    policies: Vec<HPAScalingPolicy>,
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 }
}

impl<'a> Rules<'a> {
    fn up(said: Option<&'a HPAScalingRules>) -> Self {
        Self::of(said, 0, || vec![policy("Pods", 4), policy("Percent", 100)])
    }

    fn down(said: Option<&'a HPAScalingRules>) -> Self {
        Self::of(said, DOWNSCALE_STABILIZATION, || vec![policy("Percent", 100)])
    }

    fn of(
        said: Option<&'a HPAScalingRules>,
        window: i32,
        policies: impl Fn() -> Vec<HPAScalingPolicy>,
    ) -> Self {
        Self {
            window: said.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(window),
            select: said.and_then(|rules| rules.select_policy.as_deref()).unwrap_or("Max"),
            policies: said.and_then(|rules| rules.policies.clone()).unwrap_or_else(policies),
        }
    }

    /// The furthest the policies let a target go.
    fn limit(&self, current: i32, direction: Direction, replicas_before: impl Fn(i32) -> i32) -> i32 {
        if self.select == "Disabled" {
            return current;
        }
        let limits = self.policies.iter().map(|policy| {
            let before = replicas_before(policy.period_seconds);
            match (policy.type_.as_str(), direction) {
                ("Pods", Direction::Up) => before.saturating_add(policy.value),
                ("Pods", Direction::Down) => before.saturating_sub(policy.value),
                // Rounded so that a target can always move up, and down by what is allowed at least.
                (_, Direction::Up) => {
                    (f64::from(before) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32
                }
                (_, Direction::Down) => (f64::from(before) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
            }
        });
        let furthest = (self.select == "Min") == (direction == Direction::Down);
        let chosen = if furthest { limits.max() } else { limits.min() };
        chosen.unwrap_or(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rules(select: &str, window: i32, policies: &[(&str, i32, i32)]) -> HPAScalingRules {
        let policy = |&(kind, value, period_seconds): &(&str, i32, i32)| HPAScalingPolicy {
            type_: kind.to_owned(),
            value,
            period_seconds,
        };
        HPAScalingRules {
            select_policy: Some(select.to_owned()),
            stabilization_window_seconds: Some(window),
            policies: Some(policies.iter().map(policy).collect()),
            tolerance: None,
        }
    }

    fn behavior(up: HPAScalingRules, down: HPAScalingRules) -> HorizontalPodAutoscalerBehavior {
        HorizontalPodAutoscalerBehavior { scale_up: Some(up), scale_down: Some(down) }
    }

    #[test]
    fn without_rules_targets_double_at_most_and_shrink_after_five_minutes() {
        let (mut history, range) = (History::default(), Range { current: 3, least: 1, most: 100 });
        let grown = history.decide(50, range, None, at(0));
        assert_eq!((grown.replicas, grown.limited.1), (6, "ScaleUpLimit"));
        let held = history.decide(2, Range { current: 6, ..range }, None, at(299));
        assert_eq!((held.replicas, held.able.0), (12, "ScaleDownStabilized"));
        let shrunk = history.decide(2, Range { current: 6, ..range }, None, at(599));
        assert_eq!((shrunk.replicas, shrunk.able.0, shrunk.limited.0), (2, "ReadyForNewScale", false));
        assert_eq!(history.decide(0, range, None, at(2000)).limited.1, "TooFewReplicas");
    }

    #[test]
    fn policies_count_what_was_done_in_their_period() {
        let (mut history, range) = (History::default(), Range { current: 10, least: 1, most: 100 });
        let slow = behavior(
            rules("Max", 0, &[("Pods", 2, 60)]),
            rules("Min", 0, &[("Percent", 10, 60), ("Pods", 3, 60)]),
        );
        assert_eq!(history.decide(50, range, Some(&slow), at(0)).replicas, 12);
        history.changed(2, at(0));
        let range = Range { current: 12, ..range };
        assert_eq!(history.decide(50, range, Some(&slow), at(30)).replicas, 12);
        assert_eq!(history.decide(50, range, Some(&slow), at(61)).replicas, 14);
        let down = history.decide(1, range, Some(&slow), at(200));
        assert_eq!((down.replicas, down.limited.1), (10, "ScaleDownLimit"));
        let never = behavior(rules("Disabled", 0, &[]), rules("Disabled", 0, &[]));
        assert_eq!(history.decide(1, range, Some(&never), at(300)).replicas, 12);
    }

    #[test]
    fn windows_take_the_gentlest_recent_wish() {
        let (mut history, range) = (History::default(), Range { current: 5, least: 1, most: 100 });
        let gentle = behavior(rules("Max", 60, &[("Pods", 100, 15)]), rules("Max", 60, &[("Pods", 100, 15)]));
        assert_eq!(history.decide(6, range, Some(&gentle), at(0)).replicas, 6);
        let up = history.decide(9, range, Some(&gentle), at(30));
        assert_eq!((up.replicas, up.able.0), (6, "ScaleUpStabilized"));
        assert_eq!(history.decide(9, range, Some(&gentle), at(89)).replicas, 9);
        let down = history.decide(2, range, Some(&gentle), at(100));
        assert_eq!((down.replicas, down.able.0), (5, "ScaleDownStabilized"));
    }

    proptest! {
        /// Whatever is wished for, a target stays in its range and never moves against the wish.
        #[test]
        fn decisions_stay_in_range(wishes in prop::collection::vec(0..200i32, 1..60), current in 1..50i32) {
            let (mut history, mut current) = (History::default(), current);
            let some = behavior(rules("Max", 15, &[("Percent", 50, 30)]), rules("Min", 30, &[("Pods", 3, 30), ("Percent", 20, 60)]));
            for (step, wish) in wishes.into_iter().enumerate() {
                let now = at(15 * step as i64);
                let range = Range { current, least: 1, most: 50 };
                let decided = history.decide(wish, range, Some(&some), now).replicas;
                prop_assert!((1..=50).contains(&decided));
                let wish = wish.clamp(1, 50);
                prop_assert!((decided - current).signum() * (wish - current).signum() >= 0 || decided == current);
                history.changed(decided - current, now);
                current = decided;
            }
        }
    }
}
