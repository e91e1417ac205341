//! Parts of instants and of durations.

use jiff::civil::Weekday;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::Value;

pub(super) const FUNCTIONS: &[Definition] = &[
    (
        "getFullYear",
        full_year,
        &[
            ("timestamp_to_year", ". timestamp -> int"),
            ("timestamp_to_year_with_tz", ". timestamp, string -> int"),
        ],
    ),
    (
        "getMonth",
        month,
        &[
            ("timestamp_to_month", ". timestamp -> int"),
            ("timestamp_to_month_with_tz", ". timestamp, string -> int"),
        ],
    ),
    (
        "getDayOfYear",
        day_of_year,
        &[
            ("timestamp_to_day_of_year", ". timestamp -> int"),
            ("timestamp_to_day_of_year_with_tz", ". timestamp, string -> int"),
        ],
    ),
    (
        "getDayOfMonth",
        day_of_month,
        &[
            ("timestamp_to_day_of_month", ". timestamp -> int"),
            ("timestamp_to_day_of_month_with_tz", ". timestamp, string -> int"),
        ],
    ),
    (
        "getDate",
        date,
        &[
            ("timestamp_to_day_of_month_1_based", ". timestamp -> int"),
            ("timestamp_to_day_of_month_1_based_with_tz", ". timestamp, string -> int"),
        ],
    ),
    (
        "getDayOfWeek",
        day_of_week,
        &[
            ("timestamp_to_day_of_week", ". timestamp -> int"),
            ("timestamp_to_day_of_week_with_tz", ". timestamp, string -> int"),
        ],
    ),
    (
        "getHours",
        hours,
        &[
            ("timestamp_to_hours", ". timestamp -> int"),
            ("timestamp_to_hours_with_tz", ". timestamp, string -> int"),
            ("duration_to_hours", ". duration -> int"),
        ],
    ),
    (
        "getMinutes",
        minutes,
        &[
            ("timestamp_to_minutes", ". timestamp -> int"),
            ("timestamp_to_minutes_with_tz", ". timestamp, string -> int"),
            ("duration_to_minutes", ". duration -> int"),
        ],
    ),
    (
        "getSeconds",
        seconds,
        &[
            ("timestamp_to_seconds", ". timestamp -> int"),
            ("timestamp_to_seconds_tz", ". timestamp, string -> int"),
            ("duration_to_seconds", ". duration -> int"),
        ],
    ),
    (
        "getMilliseconds",
        milliseconds,
        &[
            ("timestamp_to_milliseconds", ". timestamp -> int"),
            ("timestamp_to_milliseconds_with_tz", ". timestamp, string -> int"),
            ("duration_to_milliseconds", ". duration -> int"),
        ],
    ),
];

/// The instant in UTC, or in the time zone given as second argument: a name, or an offset such as `+02:00`.
fn zoned(at: Timestamp, rest: &[Value<'_>]) -> std::result::Result<Zoned, EvalError> {
    let zone = match rest {
        [] => TimeZone::UTC,
        [Value::String(name)] => zone(name)?,
        _ => return Err(EvalError::NoSuchOverload),
    };
    Ok(at.to_zoned(zone))
}

fn zone(name: &str) -> std::result::Result<TimeZone, EvalError> {
    let unknown = || EvalError::failed(format!("unknown time zone {name}"));
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let negative = hours.starts_with('-');
    let hours: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    let seconds = hours.checked_mul(3600).zip(minutes.checked_mul(60));
    let (hours, minutes) = seconds.ok_or_else(unknown)?;
    let total = if negative { hours.checked_sub(minutes) } else { hours.checked_add(minutes) };
    let offset = Offset::from_seconds(total.ok_or_else(unknown)?).map_err(|_| unknown())?;
    Ok(TimeZone::fixed(offset))
}

/// A part of an instant, or of a duration where durations have it.
fn part<'a>(args: &[Value<'a>], of: fn(&Zoned) -> i64, nanos: Option<i64>) -> Result<'a> {
    match (args, nanos) {
        ([Value::Timestamp(at), rest @ ..], _) => Ok(Value::Int(of(&zoned(*at, rest)?))),
        ([Value::Duration(duration)], Some(unit)) => Ok(Value::Int(duration / unit)),
        _ => no_overload(),
    }
}

const SECOND: i64 = 1_000_000_000;

fn full_year<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.year()), None)
}

fn month<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.month()) - 1, None)
}

fn day_of_year<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.day_of_year()) - 1, None)
}

fn day_of_month<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.day()) - 1, None)
}

fn date<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.day()), None)
}

fn day_of_week<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.weekday().since(Weekday::Sunday)), None)
}

fn hours<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.hour()), Some(3600 * SECOND))
}

fn minutes<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.minute()), Some(60 * SECOND))
}

fn seconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    part(args, |at| i64::from(at.second()), Some(SECOND))
}

fn milliseconds<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
        _ => part(args, |at| i64::from(at.millisecond()), None),
    }
}
