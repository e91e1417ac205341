//! RFC 3339 times as Go reads and prints them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::error::GoQuoted;

/// `metav1.Time`: a fraction of the second is read, and dropped when printed.
pub(super) const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
/// `metav1.MicroTime`: exactly six digits.
pub(super) const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Reads a time of one of the two layouts. The error is Go's.
pub(super) fn parse(text: &str, layout: &'static str) -> Result<Timestamp, String> {
    let mut cursor = Cursor { text, layout, rest: text };
    let year = cursor.digits(4, "2006")?;
    cursor.literal("-")?;
    let month = cursor.digits(2, "01")?;
    cursor.require((1..=12).contains(&month), "month")?;
    cursor.literal("-")?;
    let day = cursor.digits(2, "02")?;
    cursor.literal("T")?;
    let hour = cursor.hour()?;
    cursor.require(hour < 24, "hour")?;
    cursor.literal(":")?;
    let minute = cursor.digits(2, "04")?;
    cursor.require(minute < 60, "minute")?;
    cursor.literal(":")?;
    let second = cursor.digits(2, "05")?;
    cursor.require(second < 60, "second")?;
    let nanos = cursor.fraction()?;
    let offset = cursor.offset()?;
    cursor.end()?;
    let date =
        DateTime::new(year as i16, month as i8, day as i8, hour as i8, minute as i8, second as i8, nanos)
            .map_err(|_| cursor.out_of_range("day"))?;
    let offset = Offset::from_seconds(offset).map_err(|_| cursor.out_of_range("time zone offset hour"))?;
    offset.to_timestamp(date).map_err(|_| cursor.out_of_range("year"))
}

/// The text of a time in UTC with seconds.
pub(super) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The text of a time in UTC with microseconds.
pub(super) fn micros(time: Timestamp) -> String {
    format!("{}.{:06}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), instant(time).1 / 1000)
}

/// Whole seconds since 1970, rounded down, and the nanoseconds after them.
pub(super) fn instant(time: Timestamp) -> (i64, i32) {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) }
}

/// Go's zero time, which is printed as null.
pub(super) fn is_zero(time: Timestamp) -> bool {
    const YEAR_ONE: i64 = -62_135_596_800;
    time.as_second() == YEAR_ONE && time.subsec_nanosecond() == 0
}

struct Cursor<'a> {
    text: &'a str,
    layout: &'static str,
    rest: &'a str,
}

type Part<T> = Result<T, String>;

impl Cursor<'_> {
    fn digits(&mut self, count: usize, element: &str) -> Part<u32> {
        let digits = self.rest.get(..count).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let value = digits.and_then(|text| text.parse().ok()).ok_or_else(|| self.unexpected(element))?;
        self.rest = &self.rest[count..];
        Ok(value)
    }

    /// Go's layout reads one digit here too, where RFC 3339 asks for two.
    fn hour(&mut self) -> Part<u32> {
        let one_digit = self.rest.as_bytes().get(1).is_some_and(|byte| !byte.is_ascii_digit());
        self.digits(if one_digit { 1 } else { 2 }, "15")
    }

    fn literal(&mut self, text: &str) -> Part<()> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| self.unexpected(text))?;
        Ok(())
    }

    fn fraction(&mut self) -> Part<i32> {
        let Some(after) = self.rest.strip_prefix(['.', ',']) else {
            return if self.layout == MICROS { Err(self.unexpected(".000000")) } else { Ok(0) };
        };
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        if self.layout == MICROS && count != 6 {
            return Err(self.unexpected(".000000"));
        }
        if count == 0 {
            return Ok(0);
        }
        let digits = &after[..count.min(9)];
        self.rest = &after[count..];
        Ok(digits.parse::<i32>().unwrap_or(0) * 10_i32.pow(9 - digits.len() as u32))
    }

    fn offset(&mut self) -> Part<i32> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let element = "Z07:00";
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.unexpected(element)),
        };
        let whole = self.rest;
        let part = |range: std::ops::Range<usize>| {
            whole
                .get(range)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
                .parse::<i32>()
                .ok()
        };
        let (Some(hours), Some(":"), Some(minutes)) = (part(1..3), whole.get(3..4), part(4..6)) else {
            return Err(self.unexpected(element));
        };
        self.require(hours <= 24, "time zone offset hour")?;
        self.require(minutes < 60, "time zone offset minute")?;
        self.rest = &whole[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }

    fn end(&self) -> Part<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(format!("parsing time {}: extra text: {}", GoQuoted(self.text), GoQuoted(self.rest)))
    }

    fn require(&self, holds: bool, what: &str) -> Part<()> {
        if holds { Ok(()) } else { Err(self.out_of_range(what)) }
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", GoQuoted(self.text))
    }

    fn unexpected(&self, element: &str) -> String {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            GoQuoted(self.text),
            GoQuoted(self.layout),
            GoQuoted(self.rest),
            GoQuoted(element)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_out_in_utc_without_a_fraction() {
        let time = parse("2020-02-29T23:30:01.999+01:30", SECONDS).expect("time");
        assert_eq!(seconds(time), "2020-02-29T22:00:01Z");
        let time = parse("2020-01-01T00:00:00.000042Z", MICROS).expect("time");
        assert_eq!(micros(time), "2020-01-01T00:00:00.000042Z");
        assert!(is_zero(parse("0001-01-01T00:00:00Z", SECONDS).expect("zero")));
        assert_eq!(seconds(parse("0999-01-01T00:00:00Z", SECONDS).expect("early")), "0999-01-01T00:00:00Z");
    }

    #[test]
    fn errors_are_worded_as_go_words_them() {
        for (text, layout, message) in [
            (
                "foo",
                SECONDS,
                r#"parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006""#,
            ),
            ("2020-13-01T00:00:00Z", SECONDS, r#"parsing time "2020-13-01T00:00:00Z": month out of range"#),
            ("2021-02-29T00:00:00Z", SECONDS, r#"parsing time "2021-02-29T00:00:00Z": day out of range"#),
            ("2020-01-01T00:00:00Zx", SECONDS, r#"parsing time "2020-01-01T00:00:00Zx": extra text: "x""#),
            (
                "2020-01-01T00:00:00Z",
                MICROS,
                r#"parsing time "2020-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
            ),
        ] {
            assert_eq!(parse(text, layout).expect_err(text), message);
        }
    }
}
