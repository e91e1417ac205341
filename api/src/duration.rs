//! Go's durations as text: `1h30m`, `1.5s`, `-10ms`.

use thiserror::Error;

/// A text that is no duration. The message is Go's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    #[error("time: invalid duration {}", crate::decode::GoQuoted(.0))]
    Invalid(String),
    #[error("time: missing unit in duration {}", crate::decode::GoQuoted(.0))]
    MissingUnit(String),
    #[error("time: unknown unit {} in duration {}", crate::decode::GoQuoted(.unit), crate::decode::GoQuoted(.text))]
    UnknownUnit { unit: String, text: String },
}

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds of a duration such as `1h0m0.5s`.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (name, tail) = tail.split_at(unit_end);
        if name.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let unit = unit(name)
            .ok_or_else(|| DurationError::UnknownUnit { unit: name.to_owned(), text: text.to_owned() })?;
        total += amount(whole, fraction, unit).filter(|part| *part <= 1 << 63).ok_or_else(invalid)?;
        if total > 1 << 63 {
            return Err(invalid());
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

fn unit(name: &str) -> Option<i64> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

/// None when it is too large to count.
fn amount(whole: &str, fraction: &str, unit: i64) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
    // Digits beyond these are below a nanosecond of the largest unit.
    let digits = &fraction[..fraction.len().min(18)];
    let part: i128 = if digits.is_empty() { 0 } else { digits.parse::<i64>().ok()?.into() };
    Some(whole * i128::from(unit) + part * i128::from(unit) / 10_i128.pow(digits.len() as u32))
}

/// The text of a duration in nanoseconds as Go prints it: `1h0m0s`, `1.5s`, `0s`.
pub fn format(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    let second = SECOND as u64;
    if total < second {
        let (unit, name) = match total {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(total, unit));
    }
    let seconds = decimal(total % (60 * second), second);
    let minutes = total / (60 * second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros; the unit is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{:0width$}", fraction, width = unit.ilog10() as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_in_gos_form() {
        for (text, canonical) in [
            ("0", "0s"),
            ("1h", "1h0m0s"),
            ("90s", "1m30s"),
            ("1.5s", "1.5s"),
            ("-10ms", "-10ms"),
            ("1us", "1µs"),
            (".5m", "30s"),
            ("100ns", "100ns"),
            ("2562047h47m16.854775807s", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(format(parse(text).expect(text)), canonical, "{text}");
        }
        assert_eq!(format(i64::MIN), "-2562047h47m16.854775808s");
    }

    #[test]
    fn what_is_no_duration_is_refused_in_gos_words() {
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("1", "time: missing unit in duration \"1\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("9999999h", "time: invalid duration \"9999999h\""),
        ] {
            assert_eq!(parse(text).expect_err(text).to_string(), message);
        }
    }
}
