//! `&& || ! ?:` — all but the negation are evaluated by the interpreter, as they do not need all their arguments.

use super::{Result, no_overload};
use crate::cel::functions::Definition;
use crate::cel::value::Value;

pub(super) const FUNCTIONS: &[Definition] = &[
    ("_?_:_", lazy, &[("conditional", "bool, A, A -> A")]),
    ("_&&_", lazy, &[("logical_and", "bool, bool -> bool")]),
    ("_||_", lazy, &[("logical_or", "bool, bool -> bool")]),
    ("@not_strictly_false", lazy, &[("not_strictly_false", "bool -> bool")]),
    ("!_", not, &[("logical_not", "bool -> bool")]),
];

/// The interpreter does not call it.
fn lazy<'a>(_: &[Value<'a>]) -> Result<'a> {
    no_overload()
}

fn not<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Bool(value)] => Ok((!value).into()),
        _ => no_overload(),
    }
}
