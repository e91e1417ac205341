//! `size`, `in`, indexes, and what macros need of maps.

use std::rc::Rc;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{List, Map, Value};

pub(super) const FUNCTIONS: &[Definition] = &[
    (
        "size",
        size,
        &[
            ("size_bytes", "bytes -> int"),
            ("bytes_size", ". bytes -> int"),
            ("size_list", "list(A) -> int"),
            ("list_size", ". list(A) -> int"),
            ("size_map", "map(A, B) -> int"),
            ("map_size", ". map(A, B) -> int"),
            ("size_string", "string -> int"),
            ("string_size", ". string -> int"),
        ],
    ),
    ("@in", contained, &[("in_list", "A, list(A) -> bool"), ("in_map", "A, map(A, B) -> bool")]),
    (
        "_[_]",
        index,
        &[
            ("index_list", "list(A), int -> A"),
            ("index_map", "map(A, B), A -> B"),
            ("optional_list_index_int", "opt(list(V)), int -> opt(V)"),
            ("optional_map_index_value", "opt(map(K, V)), K -> opt(V)"),
        ],
    ),
    (
        "_[?_]",
        optional_index,
        &[
            ("list_optindex_optional_int", "list(V), int -> opt(V)"),
            ("optional_list_optindex_optional_int", "opt(list(V)), int -> opt(V)"),
            ("map_optindex_optional_value", "map(K, V), K -> opt(V)"),
            ("optional_map_optindex_optional_value", "opt(map(K, V)), K -> opt(V)"),
        ],
    ),
    (
        "cel.@mapInsert",
        map_insert,
        &[
            ("@mapInsert_map_key_value", "map(K, V), K, V -> map(K, V)"),
            ("@mapInsert_map_map", "map(K, V), map(K, V) -> map(K, V)"),
        ],
    ),
];

fn size<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)] => {
            Ok(Value::Int(i64::try_from(args[0].cost_size()).unwrap_or(i64::MAX)))
        }
        _ => no_overload(),
    }
}

fn contained<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [wanted, Value::List(list)] => Ok(list.contains(wanted).into()),
        [key, Value::Map(map)] => match number_key(key) {
            Some(key) => Ok(map.contains(&key).into()),
            None => Ok(map.contains(key).into()),
        },
        _ => no_overload(),
    }
}

/// Keys of maps are whole numbers, whatever form a number has.
fn number_key<'a>(key: &Value<'a>) -> Option<Value<'a>> {
    match key {
        Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.2e18 =>
        {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
            Some(Value::Int(*value as i64))
        }
        _ => None,
    }
}

fn position(index: &Value<'_>) -> std::result::Result<i64, EvalError> {
    match index {
        Value::Int(at) => Ok(*at),
        Value::Uint(at) => Ok(i64::try_from(*at).unwrap_or(i64::MAX)),
        Value::Double(at) => match number_key(&Value::Double(*at)) {
            Some(Value::Int(at)) => Ok(at),
            _ => Err(EvalError::failed(format!("unsupported index value: {at}"))),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn item<'a>(list: &List<'a>, index: &Value<'_>) -> std::result::Result<Option<Value<'a>>, EvalError> {
    let at = position(index)?;
    usize::try_from(at).ok().and_then(|at| list.get(at)).transpose()
}

/// `a[b]`, also where the container is an optional.
pub(in crate::cel) fn index<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(list), at] => match item(list, at)? {
            Some(item) => Ok(item),
            None => Err(EvalError::failed(format!("index out of bounds: {}", position(at)?))),
        },
        [Value::Map(map), key] => match map.get(key) {
            Some(value) => value,
            None => Err(EvalError::no_such_key(super::convert::text(key))),
        },
        [Value::Optional(None), _] => Ok(Value::NONE),
        [Value::Optional(Some(_)), _] => optional_index(args),
        _ => no_overload(),
    }
}

fn optional_index<'a>(args: &[Value<'a>]) -> Result<'a> {
    let found = match args {
        [Value::List(list), at] => item(list, at)?,
        [Value::Map(map), key] => map.get(key).transpose()?,
        [Value::Optional(None), _] => None,
        [Value::Optional(Some(of)), key] => return optional_index(&[Value::clone(of), key.clone()]),
        _ => return no_overload(),
    };
    Ok(found.map_or(Value::NONE, Value::some))
}

fn map_insert<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Map(map), Value::Map(more)] => {
            let mut entries = map.entries()?;
            for (key, value) in more.entries()? {
                insert(&mut entries, key, value)?;
            }
            Ok(Value::Map(Map::Made(Rc::new(entries))))
        }
        [Value::Map(map), key, value] => {
            let mut entries = map.entries()?;
            insert(&mut entries, key.clone(), value.clone())?;
            Ok(Value::Map(Map::Made(Rc::new(entries))))
        }
        _ => no_overload(),
    }
}

fn insert<'a>(
    entries: &mut Vec<(Value<'a>, Value<'a>)>,
    key: Value<'a>,
    value: Value<'a>,
) -> std::result::Result<(), EvalError> {
    if entries.iter().any(|(known, _)| known.equals(&key)) {
        return Err(EvalError::failed(format!(
            "insert failed: key {} already exists",
            super::convert::text(&key)
        )));
    }
    entries.push((key, value));
    Ok(())
}
