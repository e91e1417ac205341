//! Values of unknown form: custom resources, patches, raw extensions.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::error::{DecodeError, TypeError};
use super::scan::{self, Scanner};
use super::strict::Strict;

/// A whole document, and what is strictly wrong with it.
pub(super) fn decode(bytes: &[u8], strict: bool) -> Result<(Value, Vec<String>), DecodeError> {
    let mut scan = Scanner::new(bytes);
    let mut strict = strict.then(Strict::default);
    let value = match value(&mut scan, &mut strict) {
        Ok(value) => value,
        // A document that is no JSON is refused as such, wherever the walk stopped.
        Err(error) => return Err(scan::check(bytes).map_or_else(Into::into, |()| error)),
    };
    scan.end()?;
    Ok((value, strict.map(Strict::into_errors).unwrap_or_default()))
}

/// Reads any value. Of repeated keys the last wins.
pub(super) fn value(scan: &mut Scanner<'_>, strict: &mut Option<Strict>) -> Result<Value, DecodeError> {
    Ok(match scan.peek()? {
        b'{' => Value::Object(object(scan, strict)?),
        b'[' => Value::Array(array(scan, strict)?),
        b'"' => Value::String(scan.string()?.into_owned()),
        b'-' | b'0'..=b'9' => Value::Number(number(scan.number()?)?),
        _ => scan.literal()?.map_or(Value::Null, Value::Bool),
    })
}

fn object(scan: &mut Scanner<'_>, strict: &mut Option<Strict>) -> Result<Map<String, Value>, DecodeError> {
    let mut map = Map::new();
    scan.enter()?;
    let mut first = true;
    while let Some(key) = scan.key(first)?.map(Cow::into_owned) {
        first = false;
        if let Some(strict) = strict.as_mut().filter(|_| map.contains_key(&key)) {
            strict.duplicate(&key);
        }
        let mark = strict.as_mut().map(|strict| strict.push_key(&key));
        let value = value(scan, strict)?;
        strict.as_mut().zip(mark).into_iter().for_each(|(strict, mark)| strict.pop(mark));
        map.insert(key, value);
    }
    Ok(map)
}

fn array(scan: &mut Scanner<'_>, strict: &mut Option<Strict>) -> Result<Vec<Value>, DecodeError> {
    let mut items = Vec::new();
    scan.enter()?;
    while scan.element(items.is_empty())? {
        let mark = strict.as_mut().map(|strict| strict.push_index(items.len()));
        items.push(value(scan, strict)?);
        strict.as_mut().zip(mark).into_iter().for_each(|(strict, mark)| strict.pop(mark));
    }
    Ok(items)
}

/// Integers stay integers; other numbers become floats, which Go prints without a fraction when they have none.
pub(super) fn number(text: &str) -> Result<Number, DecodeError> {
    if !text.contains('.')
        && let Ok(int) = text.parse::<i64>()
    {
        return Ok(int.into());
    }
    text.parse().ok().and_then(float).ok_or_else(|| {
        DecodeError::Type(TypeError {
            value: format!("number {text}"),
            struct_name: String::new(),
            field: String::new(),
            expected: "float64".to_owned(),
        })
    })
}

/// None for infinities and NaN, which JSON cannot express.
pub(crate) fn float(float: f64) -> Option<Number> {
    /// Every integer below this is exact in a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() < EXACT {
        return Some((float as i64).into());
    }
    Number::from_f64(float)
}
