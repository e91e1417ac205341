//! Regular expressions.

use regex::{Regex, RegexBuilder};

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::Value;

/// What a compiled expression may take.
const MAX_COMPILED: usize = 1 << 20;

pub(super) const FUNCTIONS: &[Definition] = &[
    (
        "matches",
        matches_text,
        &[("matches", "string, string -> bool"), ("matches_string", ". string, string -> bool")],
    ),
    ("find", find_text, &[("string_find_string", ". string, string -> string")]),
    (
        "findAll",
        find_all_text,
        &[
            ("string_find_all_string", ". string, string -> list(string)"),
            ("string_find_all_string_int", ". string, string, int -> list(string)"),
        ],
    ),
];

/// Compiles an expression; its size is limited.
pub(in crate::cel) fn compile(pattern: &str) -> std::result::Result<Regex, EvalError> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| {
        EvalError::failed(format!("error parsing regexp: {}", last_line(&error.to_string())))
    })
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ")
}

fn matches_text<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [_, Value::String(pattern)] = args else { return no_overload() };
    matches(&compile(pattern)?, args)
}

fn find_text<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [_, Value::String(pattern)] = args else { return no_overload() };
    find(&compile(pattern)?, args)
}

fn find_all_text<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [_, Value::String(pattern), ..] = args else { return no_overload() };
    find_all(&compile(pattern)?, args)
}

pub(in crate::cel) fn matches<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), ..] = args else { return no_overload() };
    Ok(pattern.is_match(text).into())
}

pub(in crate::cel) fn find<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), ..] = args else { return no_overload() };
    Ok(pattern.find(text).map_or("", |found| found.as_str()).to_owned().into())
}

/// With a number as last argument at most as many are found; a negative one means all.
pub(in crate::cel) fn find_all<'a>(pattern: &Regex, args: &[Value<'a>]) -> Result<'a> {
    let (text, limit) = match args {
        [Value::String(text), _] => (text, usize::MAX),
        [Value::String(text), _, Value::Int(limit)] => (text, usize::try_from(*limit).unwrap_or(usize::MAX)),
        _ => return no_overload(),
    };
    let found = pattern.find_iter(text).take(limit).map(|found| Value::from(found.as_str().to_owned()));
    Ok(found.collect::<Vec<_>>().into())
}
