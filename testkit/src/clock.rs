//! A wall clock that moves with tokio's time.

use jiff::{SignedDuration, Timestamp};
use knarr_api::time::Clock;
use tokio::time::Instant;

/// Begins at a fixed moment and goes on as tokio's clock does: paused when that is paused.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    begun: Instant,
    begin: Timestamp,
}

impl TokioClock {
    /// Must be made inside a runtime.
    pub fn new() -> Self {
        let begin: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a constant that is a time");
        Self { begun: Instant::now(), begin }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.begun.elapsed()).unwrap_or(SignedDuration::MAX);
        self.begin.saturating_add(passed).expect("a duration saturates")
    }
}
