//! How figures are shown.

use std::time::Duration;

pub fn heading() {
    line("what", "measured", "goal");
}

pub fn line(what: &str, measured: &str, goal: &str) {
    println!("{what:<46} {measured:<56} {goal}");
}

/// Durations in order, of which some are of interest.
pub struct Sample(Vec<Duration>);

impl Sample {
    pub fn new(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self(durations)
    }

    /// The duration that `share` (0 to 1) of them do not exceed.
    fn at(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
    }

    pub fn shown(&self) -> String {
        let shown = |share| format!("{:.0} ms", self.at(share).as_secs_f64() * 1e3);
        let [half, most, nearly, all] = [0.5, 0.9, 0.99, 1.0].map(shown);
        format!("p50 {half}, p90 {most}, p99 {nearly}, max {all} of {}", self.0.len())
    }
}
