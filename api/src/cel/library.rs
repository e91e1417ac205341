//! The functions: the language's own, cel-go's extensions that Kubernetes turns on, and Kubernetes' libraries. One
//! file each; a table says how a function may be called, its implementation takes whatever it is given.

mod arithmetic;
mod authorizer;
mod collections;
mod comparison;
mod convert;
mod format;
mod ip;
mod lists;
mod logic;
mod optional;
mod quantity;
mod regex;
mod semantic_version;
mod sets;
mod strings;
mod text_format;
mod time;
mod url;

pub(super) use convert::duration_text;
pub(super) use format::Format;
pub(super) use regex::{compile, find, find_all, matches};
pub(super) use url::Url;

use super::error::EvalError;
use super::functions::Definition;
use super::value::Value;

pub(super) fn all() -> impl Iterator<Item = &'static Definition> {
    [
        arithmetic::FUNCTIONS,
        authorizer::FUNCTIONS,
        collections::FUNCTIONS,
        comparison::FUNCTIONS,
        convert::FUNCTIONS,
        format::FUNCTIONS,
        ip::FUNCTIONS,
        lists::FUNCTIONS,
        logic::FUNCTIONS,
        optional::FUNCTIONS,
        quantity::FUNCTIONS,
        regex::FUNCTIONS,
        semantic_version::FUNCTIONS,
        sets::FUNCTIONS,
        strings::FUNCTIONS,
        time::FUNCTIONS,
        url::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

type Result<'a> = std::result::Result<Value<'a>, EvalError>;

/// The answer to arguments that no overload takes.
fn no_overload<'a>() -> Result<'a> {
    Err(EvalError::NoSuchOverload)
}
