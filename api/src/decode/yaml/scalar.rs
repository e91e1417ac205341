//! YAML 1.1 typing of scalars, as upstream's parser does it.

use saphyr_parser::Tag;
use serde_json::{Number, Value};

use super::refused;
use crate::decode::error::DecodeError;
use crate::decode::untyped;

/// The value of a scalar. Quoted ones are strings; a core tag overrides the guess.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&Tag>, line: usize) -> Result<Value, DecodeError> {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
    if tag == Some("str") || (tag.is_none() && !plain) {
        return Ok(Value::String(text.to_owned()));
    }
    let value = guess(text).ok_or_else(|| refused(&format!("json: unsupported value: {text}")))?;
    let fits = match tag {
        None => true,
        Some("bool") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("int") => value.as_number().is_some_and(|number| !number.is_f64()),
        Some("float") => value.is_number(),
        // Binary data and times stay texts.
        Some(_) => return Ok(Value::String(text.to_owned())),
    };
    if fits {
        return Ok(value);
    }
    let tag = tag.unwrap_or_default();
    Err(refused(&format!("yaml: line {line}: cannot decode {} `{text}` as a !!{tag}", name(&value))))
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "!!null",
        Value::Bool(_) => "!!bool",
        Value::Number(number) if number.is_f64() => "!!float",
        Value::Number(_) => "!!int",
        _ => "!!str",
    }
}

/// None for infinities and NaN, which JSON cannot express.
fn guess(text: &str) -> Option<Value> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf"
        | "-.Inf" | "-.INF" => return None,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) => {
            number(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
        }
        _ => Value::String(text.to_owned()),
    })
}

fn number(text: &str) -> Option<Number> {
    let plain = text.replace('_', "");
    integer(&plain)
        .or_else(|| if looks_like_float(&plain) { plain.parse().ok().and_then(untyped::float) } else { None })
}

/// Decimal, `0x`, `0o`, `0b`, and octal by a leading zero.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (&lower[1..], 8)
    } else {
        (lower.as_str(), 10)
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(magnitude.into());
    }
    i64::try_from(-i128::from(magnitude)).ok().map(Number::from)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn looks_like_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &'_ str| text.strip_prefix(['-', '+']).unwrap_or(text).to_owned();
    let text = unsigned(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(unsigned(exponent))),
        None => (text.as_str(), None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(&exponent))
}

/// The JSON key that a YAML key becomes.
pub(super) fn key(value: Value) -> Result<String, DecodeError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(set) => Ok(set.to_string()),
        Value::Null => Err(refused("unsupported map key of type: nil")),
        Value::Array(_) | Value::Object(_) => Err(refused("yaml: invalid map key")),
    }
}
