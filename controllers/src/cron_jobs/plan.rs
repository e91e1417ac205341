//! Whether a Job is due. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::CronJob;

use super::schedule::Schedule;

/// More missed times than these are not counted one by one.
const MANY: usize = 100;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The latest time that has come and for which no Job was made.
    pub(super) time: Option<Timestamp>,
    /// How long until the next time comes.
    pub(super) next: Option<Duration>,
    /// So many times were missed that something must be wrong.
    pub(super) too_many: bool,
}

pub(super) fn due(cron: &CronJob, schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> Due {
    let next =
        schedule.next(now, zone).map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
    let mut earliest = cron
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref())
        .or(cron.metadata.creation_timestamp.as_ref())
        .map_or(now, |time| time.0);
    if let Some(deadline) = cron.spec.starting_deadline_seconds
        && let Ok(horizon) = now.checked_sub(SignedDuration::from_secs(deadline))
    {
        earliest = earliest.max(horizon);
    }
    let (mut time, mut missed, mut cursor) = (None, 0, earliest);
    while let Some(next) = schedule.next(cursor, zone).filter(|next| *next <= now) {
        (time, cursor) = (Some(next), next);
        missed += 1;
        if missed > MANY {
            time = latest(schedule, zone, cursor, now).or(time);
            break;
        }
    }
    Due { time, next, too_many: missed > MANY }
}

/// The latest time up to now, found by halving the time that is left.
fn latest(schedule: &Schedule, zone: &TimeZone, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let (mut low, mut high) = (after.as_second(), now.as_second());
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        match schedule.next(Timestamp::from_second(middle).ok()?, zone).filter(|next| *next <= now) {
            Some(next) => (found, low) = (Some(next), next.as_second()),
            None => high = middle,
        }
    }
    found
}

/// Whether it is too late to begin what was due at `time`.
pub(super) fn is_too_late(cron: &CronJob, time: Timestamp, now: Timestamp) -> bool {
    cron.spec.starting_deadline_seconds.is_some_and(|deadline| now.duration_since(time).as_secs() > deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{api::batch::v1::CronJobStatus, apimachinery::pkg::apis::meta::v1::Time};

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    fn cron(last: &str, deadline: Option<i64>) -> CronJob {
        let mut cron = CronJob {
            status: Some(CronJobStatus {
                last_schedule_time: Some(Time(at(last))),
                ..CronJobStatus::default()
            }),
            ..CronJob::default()
        };
        cron.spec.starting_deadline_seconds = deadline;
        cron
    }

    #[test]
    fn the_latest_missed_time_is_due_once() {
        let schedule = Schedule::parse("*/5 * * * *").unwrap();
        let due = |cron: &CronJob, now: &str| due(cron, &schedule, &TimeZone::UTC, at(now));
        assert_eq!(due(&cron("00:05:00", None), "00:09:00").time, None);
        assert_eq!(due(&cron("00:05:00", None), "00:09:00").next, Some(Duration::from_secs(60)));
        assert_eq!(due(&cron("00:05:00", None), "00:21:00").time, Some(at("00:20:00")));
        let long_ago = due(&cron("00:00:00", None), "23:59:00");
        assert_eq!((long_ago.time, long_ago.too_many), (Some(at("23:55:00")), true));
        assert_eq!(due(&cron("00:00:00", Some(60)), "23:59:00").time, None);
    }
}
