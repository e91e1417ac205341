//! How long a pod rests after failed attempts.

use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The initial pause, doubled with each attempt after the first, up to the longest.
    pub fn after(&self, attempts: u32) -> Duration {
        match attempts {
            0 => Duration::ZERO,
            attempts => (self.initial * (1 << (attempts - 1).min(16))).min(self.max),
        }
    }
}
