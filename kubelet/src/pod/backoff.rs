//! Doubling delays by key, forgotten after a long quiet.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

const INITIAL: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

/// Delays of 10 s, doubling up to the maximum; a key whose last event is twice the maximum old starts anew.
#[derive(Debug)]
pub struct Backoff {
    maximum: Duration,
    entries: HashMap<String, Entry>,
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

impl Backoff {
    pub fn new(maximum: Duration) -> Self {
        Self { maximum, entries: HashMap::new() }
    }

    fn fresh(&self, key: &str, event: Timestamp) -> Option<Entry> {
        let entry = self.entries.get(key)?;
        (event.duration_since(entry.updated) <= signed(self.maximum * 2)).then_some(*entry)
    }

    /// When the wait that began at `event` ends, with its length; `None` where it is over.
    pub fn waiting(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.fresh(key, event)?;
        let end = event.checked_add(signed(entry.delay)).ok()?;
        (now < end).then_some((end, entry.delay))
    }

    /// As [`Self::waiting`], counted from the last [`Self::next`].
    pub fn waiting_since_update(&self, key: &str, now: Timestamp) -> Option<(Timestamp, Duration)> {
        let entry = self.fresh(key, now)?;
        let end = entry.updated.checked_add(signed(entry.delay)).ok()?;
        (now < end).then_some((end, entry.delay))
    }

    /// The next wait is twice as long; this long.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) -> Duration {
        let delay = match self.fresh(key, event) {
            Some(entry) => (entry.delay * 2).min(self.maximum),
            None => INITIAL.min(self.maximum),
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
        delay
    }

    /// Forgets what has long been quiet.
    pub fn collect(&mut self, now: Timestamp) {
        let quiet = signed(self.maximum * 2);
        self.entries.retain(|_, entry| now.duration_since(entry.updated) <= quiet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn delays_double_to_the_maximum_and_reset_after_quiet() {
        let mut backoff = Backoff::new(Duration::from_secs(300));
        assert_eq!(backoff.waiting("k", at(0), at(0)), None, "the first restart is at once");
        let mut seen = Vec::new();
        let mut now = 0;
        for _ in 0..7 {
            backoff.next("k", at(now), at(now));
            let (end, delay) = backoff.waiting("k", at(now), at(now)).expect("waits");
            seen.push(delay.as_secs());
            now = end.as_second();
            assert_eq!(backoff.waiting("k", at(now - delay.as_secs() as i64), at(now)), None);
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        let later = now + 601;
        assert_eq!(backoff.waiting("k", at(later), at(later)), None);
        backoff.next("k", at(later), at(later));
        assert_eq!(backoff.waiting("k", at(later), at(later)).map(|w| w.1), Some(Duration::from_secs(10)));
    }
}
