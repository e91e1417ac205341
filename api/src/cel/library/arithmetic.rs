//! `+ - * / %`

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::Value;

pub(super) const FUNCTIONS: &[Definition] = &[
    (
        "_+_",
        add,
        &[
            ("add_bytes", "bytes, bytes -> bytes"),
            ("add_double", "double, double -> double"),
            ("add_duration_duration", "duration, duration -> duration"),
            ("add_duration_timestamp", "duration, timestamp -> timestamp"),
            ("add_timestamp_duration", "timestamp, duration -> timestamp"),
            ("add_int64", "int, int -> int"),
            ("add_list", "list(A), list(A) -> list(A)"),
            ("add_string", "string, string -> string"),
            ("add_uint64", "uint, uint -> uint"),
        ],
    ),
    (
        "_-_",
        subtract,
        &[
            ("subtract_double", "double, double -> double"),
            ("subtract_duration_duration", "duration, duration -> duration"),
            ("subtract_int64", "int, int -> int"),
            ("subtract_timestamp_duration", "timestamp, duration -> timestamp"),
            ("subtract_timestamp_timestamp", "timestamp, timestamp -> duration"),
            ("subtract_uint64", "uint, uint -> uint"),
        ],
    ),
    (
        "_*_",
        multiply,
        &[
            ("multiply_double", "double, double -> double"),
            ("multiply_int64", "int, int -> int"),
            ("multiply_uint64", "uint, uint -> uint"),
        ],
    ),
    (
        "_/_",
        divide,
        &[
            ("divide_double", "double, double -> double"),
            ("divide_int64", "int, int -> int"),
            ("divide_uint64", "uint, uint -> uint"),
        ],
    ),
    ("_%_", modulo, &[("modulo_int64", "int, int -> int"), ("modulo_uint64", "uint, uint -> uint")]),
    ("-_", negate, &[("negate_double", "double -> double"), ("negate_int64", "int -> int")]),
];

fn int<'a>(value: Option<i64>) -> Result<'a> {
    value.map(Value::Int).ok_or_else(|| EvalError::failed("integer overflow"))
}

fn uint<'a>(value: Option<u64>) -> Result<'a> {
    value.map(Value::Uint).ok_or_else(|| EvalError::failed("unsigned integer overflow"))
}

fn duration<'a>(value: Option<i64>) -> Result<'a> {
    value.map(Value::Duration).ok_or_else(|| EvalError::failed("duration overflow"))
}

fn later<'a>(at: Timestamp, nanos: Option<i64>) -> Result<'a> {
    let later = nanos.and_then(|nanos| at.checked_add(SignedDuration::from_nanos(nanos)).ok());
    later.map(Value::Timestamp).ok_or_else(|| EvalError::failed("timestamp overflow"))
}

fn add<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => Ok(format!("{}{}", &**a, &**b).into()),
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes(Rc::from([&**a, &**b].concat()))),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_add(*b)),
        [Value::Timestamp(at), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(at)] => {
            later(*at, Some(*by))
        }
        [Value::List(a), Value::List(b)] => Ok(a.concat(b)?.into()),
        _ => no_overload(),
    }
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => duration(a.checked_sub(*b)),
        [Value::Timestamp(at), Value::Duration(by)] => later(*at, by.checked_neg()),
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            duration(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        _ => no_overload(),
    }
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => no_overload(),
    }
}

fn divide<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::failed("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => no_overload(),
    }
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvalError::failed("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b)),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b)),
        _ => no_overload(),
    }
}

fn negate<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(a)] => int(a.checked_neg()),
        [Value::Double(a)] => Ok(Value::Double(-a)),
        _ => no_overload(),
    }
}
