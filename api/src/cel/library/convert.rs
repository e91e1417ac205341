//! From one type to another.

use std::rc::Rc;

use jiff::Timestamp;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Opaque, Value};

pub(super) const FUNCTIONS: &[Definition] = &[
    ("type", type_of, &[("type", "A -> type(A)")]),
    ("dyn", dynamic, &[("to_dyn", "A -> dyn")]),
    ("bool", to_bool, &[("bool_to_bool", "bool -> bool"), ("string_to_bool", "string -> bool")]),
    ("bytes", to_bytes, &[("bytes_to_bytes", "bytes -> bytes"), ("string_to_bytes", "string -> bytes")]),
    (
        "double",
        to_double,
        &[
            ("double_to_double", "double -> double"),
            ("int64_to_double", "int -> double"),
            ("string_to_double", "string -> double"),
            ("uint64_to_double", "uint -> double"),
        ],
    ),
    (
        "duration",
        to_duration,
        &[
            ("duration_to_duration", "duration -> duration"),
            ("int64_to_duration", "int -> duration"),
            ("string_to_duration", "string -> duration"),
        ],
    ),
    (
        "int",
        to_int,
        &[
            ("int64_to_int64", "int -> int"),
            ("double_to_int64", "double -> int"),
            ("duration_to_int64", "duration -> int"),
            ("string_to_int64", "string -> int"),
            ("timestamp_to_int64", "timestamp -> int"),
            ("uint64_to_int64", "uint -> int"),
        ],
    ),
    (
        "string",
        to_string,
        &[
            ("string_to_string", "string -> string"),
            ("bool_to_string", "bool -> string"),
            ("bytes_to_string", "bytes -> string"),
            ("double_to_string", "double -> string"),
            ("duration_to_string", "duration -> string"),
            ("int64_to_string", "int -> string"),
            ("timestamp_to_string", "timestamp -> string"),
            ("uint64_to_string", "uint -> string"),
            ("ip_to_string", "ip -> string"),
            ("cidr_to_string", "cidr -> string"),
        ],
    ),
    (
        "timestamp",
        to_timestamp,
        &[
            ("timestamp_to_timestamp", "timestamp -> timestamp"),
            ("int64_to_timestamp", "int -> timestamp"),
            ("string_to_timestamp", "string -> timestamp"),
        ],
    ),
    (
        "uint",
        to_uint,
        &[
            ("uint64_to_uint64", "uint -> uint"),
            ("double_to_uint64", "double -> uint"),
            ("int64_to_uint64", "int -> uint"),
            ("string_to_uint64", "string -> uint"),
        ],
    ),
];

fn type_of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value] = args else { return no_overload() };
    Ok(Value::Type(value.type_name()))
}

fn dynamic<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value] = args else { return no_overload() };
    Ok(value.clone())
}

fn conversion<'a>(text: &str, of: &str) -> Result<'a> {
    Err(EvalError::failed(format!("type conversion error from 'string' to '{of}': {text:?}")))
}

fn range<'a>(of: &str) -> Result<'a> {
    Err(EvalError::failed(format!("{of} overflow")))
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bool(value)] => Ok((*value).into()),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true.into()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false.into()),
            other => conversion(other, "bool"),
        },
        _ => no_overload(),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bytes(_)] => Ok(args[0].clone()),
        [Value::String(text)] => Ok(Value::Bytes(Rc::from(text.as_bytes()))),
        _ => no_overload(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "that is what converting to double means")]
fn to_double<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Double(_)] => Ok(args[0].clone()),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [Value::String(text)] => text.parse().map(Value::Double).or_else(|_| conversion(text, "double")),
        _ => no_overload(),
    }
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Duration(_)] => Ok(args[0].clone()),
        [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => crate::duration::parse(text)
            .map(Value::Duration)
            .map_err(|error| EvalError::failed(error.to_string())),
        _ => no_overload(),
    }
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_)] => Ok(args[0].clone()),
        [Value::Uint(value)] => i64::try_from(*value).map(Value::Int).or_else(|_| range("integer")),
        [Value::Double(value)] => {
            if value.is_finite() && value.abs() < 9.223_372_036_854_776e18 {
                #[expect(clippy::cast_possible_truncation, reason = "it is in range")]
                return Ok(Value::Int(*value as i64));
            }
            range("integer")
        }
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(at)] => Ok(Value::Int(at.as_second())),
        [Value::String(text)] => text.parse().map(Value::Int).or_else(|_| conversion(text, "int")),
        _ => no_overload(),
    }
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Uint(_)] => Ok(args[0].clone()),
        [Value::Int(value)] => u64::try_from(*value).map(Value::Uint).or_else(|_| range("unsigned integer")),
        [Value::Double(value)] => {
            if (0.0..1.844_674_407_370_955_2e19).contains(value) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is in range"
                )]
                return Ok(Value::Uint(*value as u64));
            }
            range("unsigned integer")
        }
        [Value::String(text)] => text.parse().map(Value::Uint).or_else(|_| conversion(text, "uint")),
        _ => no_overload(),
    }
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Timestamp(_)] => Ok(args[0].clone()),
        [Value::Int(seconds)] => {
            Timestamp::from_second(*seconds).map(Value::Timestamp).or_else(|_| range("timestamp"))
        }
        [Value::String(text)] => text
            .parse()
            .map(Value::Timestamp)
            .map_err(|error: jiff::Error| EvalError::failed(error.to_string())),
        _ => no_overload(),
    }
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(_)] => Ok(args[0].clone()),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned().into()),
            Err(_) => Err(EvalError::failed("invalid UTF-8 in bytes, cannot convert to string")),
        },
        [Value::Opaque(value)] => match &**value {
            Opaque::Ip(_) | Opaque::Cidr(..) => Ok(text(&args[0]).into()),
            _ => no_overload(),
        },
        [Value::Null | Value::List(_) | Value::Map(_) | Value::Optional(_)] => no_overload(),
        [value] => Ok(text(value).into()),
        _ => no_overload(),
    }
}

/// A value in the words of messages.
pub(super) fn text(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => double_text(*value),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(nanos) => duration_text(*nanos),
        Value::Type(name) => name.to_string(),
        Value::Opaque(value) => match &**value {
            Opaque::Ip(ip) => ip.to_string(),
            Opaque::Cidr(ip, bits) => format!("{ip}/{bits}"),
            Opaque::Quantity(quantity) => quantity.to_string(),
            Opaque::Semver(version) => version.to_string(),
            other => other.type_name().to_owned(),
        },
        other => other.type_name().to_string(),
    }
}

/// The shortest text of a number that reads as the same number, as Go's `%g`.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    if (-4.0..21.0).contains(&exponent) {
        return value.to_string();
    }
    let shown = format!("{value:e}");
    let (mantissa, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Seconds with as many decimals as needed: `1.5s`.
pub(in crate::cel) fn duration_text(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (whole, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{whole}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{whole}.{}s", fraction.trim_end_matches('0'))
}
