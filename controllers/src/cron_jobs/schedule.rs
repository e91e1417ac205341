//! Reading cron schedules and finding the times they name. Pure.

use jiff::{SignedDuration, Span, Timestamp, Zoned, civil::Date, tz::TimeZone};

/// Years looked ahead for a time; a schedule as `0 0 30 2 *` has none.
const HORIZON: i16 = 5;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Fields(Fields),
    /// `@every 1h30m`: from the last time on.
    Every(SignedDuration),
}

/// Bit sets of the minutes, hours, days, months and weekdays that match.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days, or weekdays, are all named by `*`: if neither is, one of the two is enough.
    any_day: bool,
    any_weekday: bool,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ScheduleError {
    #[error("expected exactly 5 fields, found {0}: {1}")]
    FieldCount(usize, String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Duration(String),
    #[error("failed to parse {0}")]
    Field(String),
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let text = text.trim();
        if let Some(duration) = text.strip_prefix("@every ") {
            let parsed: SignedDuration =
                duration.trim().parse().map_err(|_| ScheduleError::Duration(duration.to_owned()))?;
            // Shorter than a second is rounded up, or the schedule would never move on.
            return Ok(Self::Every(SignedDuration::from_secs(parsed.as_secs().max(1))));
        }
        let expanded = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(ScheduleError::Descriptor(other.to_owned())),
            other => other,
        };
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(ScheduleError::FieldCount(fields.len(), format!("[{}]", fields.join(" "))));
        };
        Ok(Self::Fields(Fields {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            weekdays: field(weekdays, 0, 6, &WEEKDAYS, 0)?,
            any_day: is_any(days),
            any_weekday: is_any(weekdays),
        }))
    }

    /// The first time after `after`; `None` if there is none.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(duration) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*duration).ok()
            }
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

fn is_any(field: &str) -> bool {
    field.split(',').any(|part| matches!(part.split('/').next(), Some("*" | "?")))
}

/// A list of `*`, numbers, names, ranges and steps.
fn field(text: &str, low: u32, high: u32, names: &[&str], first_name: u32) -> Result<u64, ScheduleError> {
    let invalid = || ScheduleError::Field(text.to_owned());
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let named = names.iter().position(|name| *name == lower).and_then(|index| u32::try_from(index).ok());
        named.map(|index| index + first_name).or_else(|| text.parse().ok())
    };
    let mut bits = 0u64;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step = step.map_or(Some(1), |step| step.parse::<u32>().ok()).filter(|&step| step > 0);
        let (first, last) = match range {
            "*" | "?" => (low, high),
            range => match range.split_once('-') {
                Some((first, last)) => {
                    (number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?)
                }
                None => {
                    let only = number(range).ok_or_else(invalid)?;
                    // `5/15` is from five on.
                    (only, if part.contains('/') { high } else { only })
                }
            },
        };
        if first < low || last > high || first > last {
            return Err(invalid());
        }
        let step = usize::try_from(step.ok_or_else(invalid)?).map_err(|_| invalid())?;
        (first..=last).step_by(step).for_each(|value| bits |= 1 << value);
    }
    Ok(bits)
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).checked_add(Span::new().minutes(1)).ok()?;
        let mut date = start.date();
        let end = date.checked_add(Span::new().years(HORIZON)).ok()?;
        while date <= end {
            if self.fits_day(date) {
                let found = self.on_day(date, after, zone);
                if found.is_some() {
                    return found;
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn fits_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let fits = if self.any_day || self.any_weekday { day && weekday } else { day || weekday };
        fits && has(self.months, date.month())
    }

    /// The first time of a day that matches and is after `after`. A time that the day does not have, because the
    /// clock is put forward, is left out.
    fn on_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let hours = (0..24i8).filter(|&hour| has(self.hours, hour));
        let times = hours.flat_map(|hour| {
            (0..60i8).filter(|&minute| has(self.minutes, minute)).map(move |minute| (hour, minute))
        });
        times
            .filter_map(|(hour, minute)| {
                let zoned: Zoned = date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?;
                (zoned.hour() == hour && zoned.minute() == minute).then(|| zoned.timestamp())
            })
            .find(|time| *time > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        let time = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &zone);
        time.map_or("never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn schedules_name_their_times() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"),
            ("*/15 * * * *", "2026-01-01T00:46:00Z", "2026-01-01T01:00:00Z"),
            ("0 9-17/4 * * mon-fri", "2026-01-02T18:00:00Z", "2026-01-05T09:00:00Z"),
            ("30 3 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T03:30:00Z"),
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", "never"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule}");
        }
    }

    #[test]
    fn a_time_the_day_does_not_have_is_left_out() {
        assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin"), "2026-03-30T00:30:00Z");
        assert_eq!(next("0 8 * * *", "2026-03-29T00:00:00Z", "Europe/Berlin"), "2026-03-29T06:00:00Z");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "* * * *", "60 * * * *", "5-3 * * * *", "*/0 * * * *", "x * * * *", "@never", "@every x"]
        {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
