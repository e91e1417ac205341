//! All functions by name.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::error::EvalError;
use super::library;
use super::signature::{self, Overload};
use super::value::Value;

/// What a function does with its arguments, the receiver first. Types that no signature allows can arrive where an
/// expression's types are known only when it is evaluated.
pub(super) type Call = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// Name, implementation, and the id and signature of each overload; ids are upstream's, as costs are looked up by
/// them.
pub(super) type Definition = (&'static str, Call, &'static [(&'static str, &'static str)]);

#[derive(Debug)]
pub(super) struct Function {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    pub call: Call,
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let mut functions: HashMap<&'static str, Function> = HashMap::new();
    for (name, call, overloads) in library::all() {
        let overloads = overloads.iter().map(|(id, notation)| signature::parse(id, notation)).collect();
        let known = functions.insert(name, Function { name, overloads, call: *call });
        debug_assert!(known.is_none(), "{name} is defined twice");
    }
    functions
});

pub(super) fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}
