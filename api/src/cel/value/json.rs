//! Between JSON and values.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Number, Value as Json};

use super::{List, Map, Value};
use crate::cel::error::EvalError;
use crate::cel::types::{ListType, Type};
use crate::schema::ListKind;

static DYN: Type = Type::Dyn;
static DYN_LIST: ListType = ListType { item: Type::Dyn, kind: ListKind::Atomic, keys: Vec::new() };

/// A member of a JSON object by the name expressions use.
pub(super) fn member<'a>(
    members: &'a JsonMap<String, Json>,
    of: &'a Type,
    name: &str,
) -> Option<Result<Value<'a>, EvalError>> {
    let (json, of) = match of {
        Type::Object(object) => match object.fields.get(name) {
            Some(field) => (members.get(&*field.json)?, &field.of),
            None if object.open => (members.get(name)?, &DYN),
            None => return None,
        },
        Type::Map(map) => (members.get(name)?, &map.1),
        _ => (members.get(name)?, &DYN),
    };
    Some(Value::from_json(json, of))
}

impl<'a> Value<'a> {
    /// Reads JSON as a type says: text may be an instant, bytes or a duration.
    ///
    /// Errors: the text is none of what the type says.
    pub fn from_json(json: &'a Json, of: &'a Type) -> Result<Self, EvalError> {
        Ok(match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => read_number(number, of),
            Json::String(text) => return read_text(text, of),
            Json::Array(items) => Self::List(List::Json(
                items,
                match of {
                    Type::List(list) => list,
                    _ => &DYN_LIST,
                },
            )),
            Json::Object(members) => Self::Map(Map::Json(members, of)),
        })
    }

    /// Reads JSON without a type.
    pub fn from_untyped(json: &'a Json) -> Self {
        // Without a type no text is anything but text.
        Self::from_json(json, &DYN).unwrap_or(Self::Null)
    }

    /// The value as JSON.
    ///
    /// Errors: it has no form in JSON.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => Json::from(*value),
            Self::Uint(value) => Json::from(*value),
            Self::Double(value) => double_to_json(*value)?,
            Self::String(text) => Json::from(&**text),
            Self::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
            Self::Timestamp(at) => Json::from(at.to_string()),
            Self::Duration(nanos) => Json::from(crate::cel::library::duration_text(*nanos)),
            Self::List(List::Json(items, _)) => Json::Array(items.to_vec()),
            Self::List(list) => {
                Json::Array(list.iter().map(|item| item?.to_json()).collect::<Result<_, _>>()?)
            }
            Self::Map(Map::Json(members, _)) => Json::Object((*members).clone()),
            Self::Map(map) => Json::Object(map_to_json(map)?),
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Type(_) | Self::Opaque(_) => {
                return Err(EvalError::failed(format!(
                    "unsupported conversion of {} to JSON",
                    self.type_name()
                )));
            }
        })
    }
}

fn double_to_json(value: f64) -> Result<Json, EvalError> {
    // A whole number is written as one, as Go writes it.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
        return Ok(Json::from(value as i64));
    }
    Number::from_f64(value).map(Json::Number).ok_or_else(|| EvalError::failed("json: unsupported value"))
}

fn map_to_json(map: &Map<'_>) -> Result<JsonMap<String, Json>, EvalError> {
    let entries = map.entries()?;
    let entries = entries.into_iter().map(|(key, value)| match key {
        Value::String(key) => Ok((key.to_string(), value.to_json()?)),
        Value::Int(key) => Ok((key.to_string(), value.to_json()?)),
        other => Err(EvalError::failed(format!("unsupported key of type {}", other.type_name()))),
    });
    entries.collect()
}

fn read_number<'a>(number: &Number, of: &Type) -> Value<'a> {
    let double = || Value::Double(number.as_f64().unwrap_or_default());
    match of {
        Type::Double => double(),
        Type::Uint => number.as_u64().map_or_else(double, Value::Uint),
        _ => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None if matches!(of, Type::Int) => {
                let value = number.as_f64().unwrap_or_default();
                #[expect(clippy::cast_possible_truncation, reason = "only whole numbers are taken")]
                if value.fract() == 0.0 && value.abs() < 9.2e18 { Value::Int(value as i64) } else { double() }
            }
            None => double(),
        },
    }
}

fn read_text<'a>(text: &'a str, of: &Type) -> Result<Value<'a>, EvalError> {
    let invalid = |what: &str, why: &dyn std::fmt::Display| {
        EvalError::failed(format!("Invalid {what} formatted string {text}: {why}"))
    };
    Ok(match of {
        Type::Bytes => {
            let bytes = STANDARD.decode(text).map_err(|error| invalid("byte", &error))?;
            Value::Bytes(Rc::from(bytes))
        }
        Type::Timestamp => Value::Timestamp(instant(text).map_err(|error| invalid("date-time", &error))?),
        Type::Duration => {
            let nanos = crate::duration::parse(text).map_err(|error| invalid("duration", &error))?;
            Value::Duration(nanos)
        }
        _ => Value::from(text),
    })
}

/// An instant of RFC 3339, or the beginning of a day.
fn instant(text: &str) -> Result<Timestamp, jiff::Error> {
    if text.len() == 10 { format!("{text}T00:00:00Z").parse() } else { text.parse() }
}
