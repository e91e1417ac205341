//! `'%d items of %s'.format([n, kind])`

use crate::cel::error::EvalError;
use crate::cel::value::Value;

const DEFAULT_PRECISION: usize = 6;
/// More decimals than a double has.
const MAX_PRECISION: usize = 1_100;

/// Fills the clauses of a pattern.
pub(super) fn format(pattern: &str, args: &[Value<'_>]) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = pattern;
    while let Some((before, clause)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = clause.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (precision, clause) = precision(clause)?;
        let verb = clause.chars().next().ok_or_else(|| EvalError::failed("unexpected end of string"))?;
        rest = &clause[verb.len_utf8()..];
        let arg = args.next().ok_or_else(|| EvalError::failed("index out of range"))?;
        out.push_str(&fill(verb, precision, arg)?);
    }
    out.push_str(rest);
    Ok(out)
}

fn precision(clause: &str) -> Result<(usize, &str), EvalError> {
    let Some(rest) = clause.strip_prefix('.') else { return Ok((DEFAULT_PRECISION, clause)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let digits = rest[..end].parse().ok().filter(|digits| *digits <= MAX_PRECISION);
    let digits = digits.ok_or_else(|| EvalError::failed("error while parsing precision"))?;
    Ok((digits, &rest[end..]))
}

fn wrong(clause: &str, takes: &str, arg: &Value<'_>) -> EvalError {
    EvalError::failed(format!(
        "error during formatting: {clause} clause can only be used on {takes}, was given {}",
        arg.type_name()
    ))
}

fn fill(verb: char, precision: usize, arg: &Value<'_>) -> Result<String, EvalError> {
    match (verb, arg) {
        ('s', arg) => shown(arg),
        ('d', Value::Int(value)) => Ok(value.to_string()),
        ('d', Value::Uint(value)) => Ok(value.to_string()),
        ('d', arg) => Err(wrong("decimal", "integers", arg)),
        ('f', arg) => match double(arg) {
            Some(value) => Ok(format!("{value:.precision$}")),
            None => Err(wrong("fixed-point", "doubles", arg)),
        },
        ('e', arg) => match double(arg) {
            Some(value) => Ok(scientific(value, precision)),
            None => Err(wrong("scientific", "doubles", arg)),
        },
        ('b', Value::Int(value)) => Ok(signed(*value, |value| format!("{value:b}"))),
        ('b', Value::Uint(value)) => Ok(format!("{value:b}")),
        ('b', Value::Bool(value)) => Ok(u8::from(*value).to_string()),
        ('b', arg) => Err(wrong("binary", "integers and bools", arg)),
        ('o', Value::Int(value)) => Ok(signed(*value, |value| format!("{value:o}"))),
        ('o', Value::Uint(value)) => Ok(format!("{value:o}")),
        ('o', arg) => Err(wrong("octal", "integers", arg)),
        ('x', arg) => hexadecimal(arg),
        ('X', arg) => hexadecimal(arg).map(|text| text.to_uppercase()),
        (other, _) => Err(EvalError::failed(format!(
            "could not parse formatting clause: unrecognized formatting clause {other:?}"
        ))),
    }
}

fn double(arg: &Value<'_>) -> Option<f64> {
    match arg {
        Value::Double(value) => Some(*value),
        #[expect(clippy::cast_precision_loss, reason = "it is shown with as many digits as a double has")]
        Value::Int(value) => Some(*value as f64),
        #[expect(clippy::cast_precision_loss, reason = "it is shown with as many digits as a double has")]
        Value::Uint(value) => Some(*value as f64),
        _ => None,
    }
}

fn signed(value: i64, show: impl Fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", show(value.unsigned_abs()))
}

fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

fn hexadecimal(arg: &Value<'_>) -> Result<String, EvalError> {
    let bytes = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    match arg {
        Value::Int(value) => Ok(signed(*value, |value| format!("{value:x}"))),
        Value::Uint(value) => Ok(format!("{value:x}")),
        Value::String(text) => Ok(bytes(text.as_bytes())),
        Value::Bytes(value) => Ok(bytes(value)),
        arg => Err(wrong("hex", "integers, byte buffers, and strings", arg)),
    }
}

/// A value as `%s` shows it.
fn shown(arg: &Value<'_>) -> Result<String, EvalError> {
    match arg {
        Value::List(list) => {
            let items = list.iter().map(|item| inside(&item?)).collect::<Result<Vec<_>, _>>()?;
            Ok(format!("[{}]", items.join(", ")))
        }
        Value::Map(map) => {
            let entries = map.entries()?;
            let entries = entries.iter().map(|(key, value)| Ok((inside(key)?, inside(value)?)));
            let mut entries = entries.collect::<Result<Vec<_>, EvalError>>()?;
            entries.sort();
            let entries: Vec<String> = entries.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            Ok(format!("{{{}}}", entries.join(", ")))
        }
        Value::Opaque(_) | Value::Optional(_) => Err(wrong(
            "string",
            "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
            arg,
        )),
        arg => Ok(super::convert::text(arg)),
    }
}

/// A value inside of a list or map: as an expression would write it.
fn inside(arg: &Value<'_>) -> Result<String, EvalError> {
    Ok(match arg {
        Value::String(text) => crate::field::quote(text),
        Value::Bytes(bytes) => format!("b{}", crate::field::quote(&String::from_utf8_lossy(bytes))),
        Value::Timestamp(_) => format!("timestamp({:?})", super::convert::text(arg)),
        Value::Duration(_) => format!("duration({:?})", super::convert::text(arg)),
        Value::Double(value) if !value.is_finite() => format!("{:?}", super::convert::text(arg)),
        Value::Double(value) => format!("{value:.DEFAULT_PRECISION$}"),
        arg => shown(arg)?,
    })
}
