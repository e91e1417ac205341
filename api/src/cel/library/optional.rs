//! Values that may be absent.

use std::rc::Rc;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::Value;

pub(super) const FUNCTIONS: &[Definition] = &[
    ("optional.of", of, &[("optional_of", "V -> opt(V)")]),
    ("optional.ofNonZeroValue", of_non_zero, &[("optional_ofNonZeroValue", "V -> opt(V)")]),
    ("optional.none", none, &[("optional_none", "-> opt(V)")]),
    ("optional.unwrap", unwrap, &[("optional_unwrap", "list(opt(V)) -> list(V)")]),
    ("unwrapOpt", unwrap, &[("optional_unwrapOpt", ". list(opt(V)) -> list(V)")]),
    ("value", value, &[("optional_value", ". opt(V) -> V")]),
    ("hasValue", has_value, &[("optional_hasValue", ". opt(V) -> bool")]),
    ("or", lazy, &[("optional_or_optional", ". opt(V), opt(V) -> opt(V)")]),
    ("orValue", lazy, &[("optional_orValue_value", ". opt(V), V -> V")]),
    ("_?._", lazy, &[("select_optional_field", "dyn, string -> opt(V)")]),
];

/// The interpreter does not call it: not all arguments are needed.
fn lazy<'a>(_: &[Value<'a>]) -> Result<'a> {
    no_overload()
}

fn of<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value] = args else { return no_overload() };
    Ok(Value::some(value.clone()))
}

fn none<'a>(_: &[Value<'a>]) -> Result<'a> {
    Ok(Value::NONE)
}

fn of_non_zero<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [value] = args else { return no_overload() };
    let zero = match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(of) => of.is_none(),
        _ => false,
    };
    Ok(if zero { Value::NONE } else { Value::some(value.clone()) })
}

fn value<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Optional(Some(value))] => Ok(Value::clone(value)),
        [Value::Optional(None)] => Err(EvalError::failed("optional.none() dereference")),
        _ => no_overload(),
    }
}

fn has_value<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Optional(value)] => Ok(value.is_some().into()),
        _ => no_overload(),
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut values = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(value)) => values.push(Rc::unwrap_or_clone(value)),
            Value::Optional(None) => {}
            _ => return no_overload(),
        }
    }
    Ok(values.into())
}
