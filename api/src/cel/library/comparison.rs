//! `== != < <= > >=`

use std::cmp::Ordering;

use super::{Result, no_overload};
use crate::cel::functions::Definition;
use crate::cel::value::Value;

pub(super) const FUNCTIONS: &[Definition] = &[
    ("_==_", equals, &[("equals", "A, A -> bool")]),
    ("_!=_", differs, &[("not_equals", "A, A -> bool")]),
    (
        "_<_",
        less,
        &[
            ("less_bool", "bool, bool -> bool"),
            ("less_int64", "int, int -> bool"),
            ("less_int64_double", "int, double -> bool"),
            ("less_int64_uint64", "int, uint -> bool"),
            ("less_uint64", "uint, uint -> bool"),
            ("less_uint64_double", "uint, double -> bool"),
            ("less_uint64_int64", "uint, int -> bool"),
            ("less_double", "double, double -> bool"),
            ("less_double_int64", "double, int -> bool"),
            ("less_double_uint64", "double, uint -> bool"),
            ("less_string", "string, string -> bool"),
            ("less_bytes", "bytes, bytes -> bool"),
            ("less_timestamp", "timestamp, timestamp -> bool"),
            ("less_duration", "duration, duration -> bool"),
        ],
    ),
    (
        "_<=_",
        less_equals,
        &[
            ("less_equals_bool", "bool, bool -> bool"),
            ("less_equals_int64", "int, int -> bool"),
            ("less_equals_int64_double", "int, double -> bool"),
            ("less_equals_int64_uint64", "int, uint -> bool"),
            ("less_equals_uint64", "uint, uint -> bool"),
            ("less_equals_uint64_double", "uint, double -> bool"),
            ("less_equals_uint64_int64", "uint, int -> bool"),
            ("less_equals_double", "double, double -> bool"),
            ("less_equals_double_int64", "double, int -> bool"),
            ("less_equals_double_uint64", "double, uint -> bool"),
            ("less_equals_string", "string, string -> bool"),
            ("less_equals_bytes", "bytes, bytes -> bool"),
            ("less_equals_timestamp", "timestamp, timestamp -> bool"),
            ("less_equals_duration", "duration, duration -> bool"),
        ],
    ),
    (
        "_>_",
        greater,
        &[
            ("greater_bool", "bool, bool -> bool"),
            ("greater_int64", "int, int -> bool"),
            ("greater_int64_double", "int, double -> bool"),
            ("greater_int64_uint64", "int, uint -> bool"),
            ("greater_uint64", "uint, uint -> bool"),
            ("greater_uint64_double", "uint, double -> bool"),
            ("greater_uint64_int64", "uint, int -> bool"),
            ("greater_double", "double, double -> bool"),
            ("greater_double_int64", "double, int -> bool"),
            ("greater_double_uint64", "double, uint -> bool"),
            ("greater_string", "string, string -> bool"),
            ("greater_bytes", "bytes, bytes -> bool"),
            ("greater_timestamp", "timestamp, timestamp -> bool"),
            ("greater_duration", "duration, duration -> bool"),
        ],
    ),
    (
        "_>=_",
        greater_equals,
        &[
            ("greater_equals_bool", "bool, bool -> bool"),
            ("greater_equals_int64", "int, int -> bool"),
            ("greater_equals_int64_double", "int, double -> bool"),
            ("greater_equals_int64_uint64", "int, uint -> bool"),
            ("greater_equals_uint64", "uint, uint -> bool"),
            ("greater_equals_uint64_double", "uint, double -> bool"),
            ("greater_equals_uint64_int64", "uint, int -> bool"),
            ("greater_equals_double", "double, double -> bool"),
            ("greater_equals_double_int64", "double, int -> bool"),
            ("greater_equals_double_uint64", "double, uint -> bool"),
            ("greater_equals_string", "string, string -> bool"),
            ("greater_equals_bytes", "bytes, bytes -> bool"),
            ("greater_equals_timestamp", "timestamp, timestamp -> bool"),
            ("greater_equals_duration", "duration, duration -> bool"),
        ],
    ),
];

fn equals<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [a, b] = args else { return no_overload() };
    Ok(a.equals(b).into())
}

fn differs<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [a, b] = args else { return no_overload() };
    Ok((!a.equals(b)).into())
}

fn order<'a>(args: &[Value<'a>], wanted: fn(Ordering) -> bool) -> Result<'a> {
    match args {
        [Value::Double(a), b] | [b, Value::Double(a)] if a.is_nan() => {
            let number = matches!(b, Value::Double(_) | Value::Int(_) | Value::Uint(_));
            if number { Ok(false.into()) } else { no_overload() }
        }
        [a, b] => match a.compare(b) {
            Some(order) => Ok(wanted(order).into()),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn less<'a>(args: &[Value<'a>]) -> Result<'a> {
    order(args, Ordering::is_lt)
}

fn less_equals<'a>(args: &[Value<'a>]) -> Result<'a> {
    order(args, Ordering::is_le)
}

fn greater<'a>(args: &[Value<'a>]) -> Result<'a> {
    order(args, Ordering::is_gt)
}

fn greater_equals<'a>(args: &[Value<'a>]) -> Result<'a> {
    order(args, Ordering::is_ge)
}
