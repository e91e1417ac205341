//! Amounts of resources.

use std::cmp::Ordering;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Opaque, Value};
use crate::quantity::{Format, Quantity};

pub(super) const FUNCTIONS: &[Definition] = &[
    ("quantity", parse, &[("string_to_quantity", "string -> quantity")]),
    ("isQuantity", is_quantity, &[("is_quantity_string", "string -> bool")]),
    ("sign", sign, &[("quantity_sign", ". quantity -> int")]),
    ("isInteger", is_integer, &[("quantity_is_integer", ". quantity -> bool")]),
    ("asInteger", as_integer, &[("quantity_get_int", ". quantity -> int")]),
    ("asApproximateFloat", as_float, &[("quantity_get_float", ". quantity -> double")]),
    (
        "add",
        add,
        &[
            ("quantity_add", ". quantity, quantity -> quantity"),
            ("quantity_add_int", ". quantity, int -> quantity"),
        ],
    ),
    (
        "sub",
        subtract,
        &[
            ("quantity_sub", ". quantity, quantity -> quantity"),
            ("quantity_sub_int", ". quantity, int -> quantity"),
        ],
    ),
    (
        "isGreaterThan",
        is_greater,
        &[
            ("quantity_is_greater_than", ". quantity, quantity -> bool"),
            ("semver_is_greater_than", ". semver, semver -> bool"),
        ],
    ),
    (
        "isLessThan",
        is_less,
        &[
            ("quantity_is_less_than", ". quantity, quantity -> bool"),
            ("semver_is_less_than", ". semver, semver -> bool"),
        ],
    ),
    (
        "compareTo",
        compare_to,
        &[
            ("quantity_compare_to", ". quantity, quantity -> int"),
            ("semver_compare_to", ". semver, semver -> int"),
        ],
    ),
];

fn parse<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    let quantity: Quantity = text.parse().map_err(|error| EvalError::failed(format!("{error}")))?;
    Ok(Opaque::Quantity(quantity).into())
}

fn is_quantity<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(text.parse::<Quantity>().is_ok().into())
}

fn quantity<'v>(value: &'v Value<'_>) -> std::result::Result<&'v Quantity, EvalError> {
    match value {
        Value::Opaque(value) => match &**value {
            Opaque::Quantity(quantity) => Ok(quantity),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn one<'v>(args: &'v [Value<'_>]) -> std::result::Result<&'v Quantity, EvalError> {
    args.first().ok_or(EvalError::NoSuchOverload).and_then(quantity)
}

fn sign<'a>(args: &[Value<'a>]) -> Result<'a> {
    let quantity = one(args)?;
    let sign = if quantity.is_negative() { -1 } else { i64::from(!quantity.is_zero()) };
    Ok(Value::Int(sign))
}

fn is_integer<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(one(args)?.as_i64().is_some().into())
}

fn as_integer<'a>(args: &[Value<'a>]) -> Result<'a> {
    let number = one(args)?.as_i64();
    number.map(Value::Int).ok_or_else(|| EvalError::failed("cannot convert value to integer"))
}

fn as_float<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Double(one(args)?.as_f64()))
}

fn other(args: &[Value<'_>]) -> std::result::Result<Quantity, EvalError> {
    match args {
        [_, Value::Int(number)] => Ok(Quantity::new(*number, Format::DecimalExponent)),
        [_, value] => quantity(value).cloned(),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn add<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Opaque::Quantity(one(args)?.add(&other(args)?)).into())
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Opaque::Quantity(one(args)?.sub(&other(args)?)).into())
}

/// The order of two quantities or of two versions.
fn order(args: &[Value<'_>]) -> std::result::Result<Ordering, EvalError> {
    let [Value::Opaque(a), Value::Opaque(b)] = args else { return Err(EvalError::NoSuchOverload) };
    match (&**a, &**b) {
        (Opaque::Quantity(a), Opaque::Quantity(b)) => Ok(a.cmp(b)),
        (Opaque::Semver(a), Opaque::Semver(b)) => Ok(a.cmp_precedence(b)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn is_greater<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(order(args)?.is_gt().into())
}

fn is_less<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(order(args)?.is_lt().into())
}

fn compare_to<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Value::Int(order(args)? as i64))
}
