//! Lists as sets.

use super::{Result, no_overload};
use crate::cel::functions::Definition;
use crate::cel::value::{List, Value};

pub(super) const FUNCTIONS: &[Definition] = &[
    ("sets.contains", contains, &[("list_sets_contains_list", "list(T), list(T) -> bool")]),
    ("sets.equivalent", equivalent, &[("list_sets_equivalent_list", "list(T), list(T) -> bool")]),
    ("sets.intersects", intersects, &[("list_sets_intersects_list", "list(T), list(T) -> bool")]),
];

fn covers(list: &List<'_>, other: &List<'_>) -> bool {
    other.iter().all(|item| item.is_ok_and(|item| list.contains(&item)))
}

fn contains<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(covers(a, b).into()),
        _ => no_overload(),
    }
}

fn equivalent<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok((covers(a, b) && covers(b, a)).into()),
        _ => no_overload(),
    }
}

fn intersects<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(a.iter().flatten().any(|item| b.contains(&item)).into()),
        _ => no_overload(),
    }
}
