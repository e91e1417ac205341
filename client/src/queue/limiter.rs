//! A token bucket whose tokens may be taken before they are there.

use std::time::Duration;

use tokio::time::Instant;

/// Fills with `qps` tokens per second up to `burst`.
pub(crate) struct Bucket {
    qps: f64,
    burst: f64,
    /// May be below zero: tokens promised to callers that wait for them.
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    pub(crate) fn new(qps: f64, burst: u32) -> Self {
        Self { qps, burst: f64::from(burst), tokens: f64::from(burst), at: None }
    }

    /// Takes a token and says how long to wait until it is there.
    pub(crate) fn reserve(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / self.qps) }
    }

    /// Takes a token if one is there.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn refill(&mut self, now: Instant) {
        if let Some(at) = self.at {
            let gained = now.saturating_duration_since(at).as_secs_f64() * self.qps;
            self.tokens = (self.tokens + gained).min(self.burst);
        }
        self.at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_burst_tokens_come_at_the_rate() {
        let (mut bucket, start) = (Bucket::new(10.0, 2), Instant::now());
        assert_eq!(bucket.reserve(start), Duration::ZERO);
        assert!(bucket.try_take(start));
        assert!(!bucket.try_take(start));
        assert_eq!(bucket.reserve(start), Duration::from_millis(100));
        assert_eq!(bucket.reserve(start), Duration::from_millis(200));
        assert_eq!(bucket.reserve(start + Duration::from_millis(200)), Duration::from_millis(100));
        assert!(bucket.try_take(start + Duration::from_secs(3600)));
    }
}
