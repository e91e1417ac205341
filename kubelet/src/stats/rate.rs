//! How fast CPU time is used: from the last two readings that are far enough apart.

use std::collections::HashMap;

use knarr_runtime::cri::{ContainerStats, UnixNanos};
use parking_lot::Mutex;

/// Readings closer together say little.
const APART: i64 = 5_000_000_000;
/// Readings of what is long gone are dropped when there are this many.
const KEPT: usize = 4096;
/// Older readings describe another time.
const STALE: i64 = 600_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: UnixNanos,
    used: u64,
    /// Nanoseconds of CPU per second, at `at`.
    rate: Option<u64>,
}

/// By container id or cgroup.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<String, Reading>>);

impl Rates {
    /// Nanoseconds of CPU used per second lately; since its start for what is asked about for the first time.
    pub fn of(&self, key: &str, stats: &ContainerStats, started: UnixNanos) -> Option<u64> {
        let mut readings = self.0.lock();
        if readings.len() >= KEPT {
            readings.retain(|_, reading| stats.timestamp - reading.at < STALE);
        }
        let before = readings.get(key).copied().filter(|before| before.used <= stats.cpu_usage_nanos);
        match before {
            Some(before) if stats.timestamp - before.at < APART => before.rate,
            _ => {
                let (since, used) = before.map_or((started, 0), |before| (before.at, before.used));
                let rate = per_second(stats.cpu_usage_nanos - used, stats.timestamp - since);
                let reading = Reading { at: stats.timestamp, used: stats.cpu_usage_nanos, rate };
                readings.insert(key.to_owned(), reading);
                rate
            }
        }
    }
}

fn per_second(used: u64, over: i64) -> Option<u64> {
    let over = u128::try_from(over).ok().filter(|over| *over > 0)?;
    u64::try_from(u128::from(used) * 1_000_000_000 / over).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(second: i64, cpu_seconds: u64) -> ContainerStats {
        ContainerStats {
            timestamp: second * 1_000_000_000,
            cpu_usage_nanos: cpu_seconds * 1_000_000_000,
            ..ContainerStats::default()
        }
    }

    #[test]
    fn the_rate_is_of_the_time_between_readings() {
        let rates = Rates::default();
        assert_eq!(rates.of("a", &stats(20, 10), 0), Some(500_000_000));
        assert_eq!(rates.of("a", &stats(21, 11), 0), Some(500_000_000), "too soon for another");
        assert_eq!(rates.of("a", &stats(30, 30), 0), Some(2_000_000_000));
        assert_eq!(rates.of("a", &stats(40, 5), 0), Some(125_000_000), "started anew");
    }
}
