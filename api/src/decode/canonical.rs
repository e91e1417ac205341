//! The canonical form of values, for the other readers and writers in this crate.

use serde_json::Value;

use super::error::DecodeError;
use super::{go_time, untyped as any};

pub(crate) use super::scalar::quantity;
pub(crate) use super::untyped::float;
pub(crate) use super::zero::{complete, of_shape, omits};

const YEAR_ZERO: i64 = -62_167_219_200;
const YEAR_TEN_THOUSAND: i64 = 253_402_300_800;

/// Any JSON value.
pub(crate) fn untyped(bytes: &[u8]) -> Result<Value, DecodeError> {
    any::decode(bytes, false).map(|(value, _)| value)
}

/// The text of a time. None when out of range; Some(None) for the zero time.
pub(crate) fn timestamp(seconds: i64, nanos: i32, micros: bool) -> Option<Option<String>> {
    let time = jiff::Timestamp::new(seconds, nanos).ok()?;
    // RFC 3339 has four digits for the year.
    if !(YEAR_ZERO..YEAR_TEN_THOUSAND).contains(&seconds) {
        return None;
    }
    if go_time::is_zero(time) {
        return Some(None);
    }
    Some(Some(if micros { go_time::micros(time) } else { go_time::seconds(time) }))
}

/// Seconds since 1970 and nanoseconds of a time's text.
pub(crate) fn instant(text: &str) -> Option<(i64, i32)> {
    let time = go_time::parse(text, go_time::SECONDS).ok()?;
    Some(go_time::instant(time))
}

/// Whether a text is base64.
pub(crate) fn base64(text: &str) -> bool {
    super::scalar::bytes(text).is_ok()
}
