//! Semantic versions.

use semver::Version;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Opaque, Value};

pub(super) const FUNCTIONS: &[Definition] = &[
    (
        "semver",
        parse,
        &[("string_to_semver", "string -> semver"), ("string_bool_to_semver", "string, bool -> semver")],
    ),
    (
        "isSemver",
        is_version,
        &[("is_semver_string", "string -> bool"), ("is_semver_string_bool", "string, bool -> bool")],
    ),
    ("major", major, &[("semver_major", ". semver -> int")]),
    ("minor", minor, &[("semver_minor", ". semver -> int")]),
    ("patch", patch, &[("semver_patch", ". semver -> int")]),
];

fn read(args: &[Value<'_>]) -> std::result::Result<Version, EvalError> {
    let (text, lenient) = match args {
        [Value::String(text)] => (text, false),
        [Value::String(text), Value::Bool(lenient)] => (text, *lenient),
        _ => return Err(EvalError::NoSuchOverload),
    };
    let text = if lenient { normalized(text)? } else { text.to_string() };
    Version::parse(&text).map_err(|error| EvalError::failed(error.to_string()))
}

/// Without a leading `v` and leading zeros, and with all three numbers.
fn normalized(text: &str) -> std::result::Result<String, EvalError> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(trim_zeros).collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err(EvalError::failed("short version cannot contain PreRelease/Build meta data"));
    }
    while parts.len() < 3 {
        parts.push("0".to_owned());
    }
    Ok(parts.join("."))
}

fn trim_zeros(part: &str) -> String {
    if part.len() <= 1 {
        return part.to_owned();
    }
    let trimmed = part.trim_start_matches('0');
    if trimmed.starts_with(|c: char| c.is_ascii_digit()) { trimmed.to_owned() } else { format!("0{trimmed}") }
}

fn parse<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(Opaque::Semver(read(args)?).into())
}

fn is_version<'a>(args: &[Value<'a>]) -> Result<'a> {
    match read(args) {
        Err(EvalError::NoSuchOverload) => no_overload(),
        read => Ok(read.is_ok().into()),
    }
}

fn number<'a>(args: &[Value<'a>], of: fn(&Version) -> u64) -> Result<'a> {
    let [Value::Opaque(value)] = args else { return no_overload() };
    let Opaque::Semver(version) = &**value else { return no_overload() };
    Ok(Value::Int(i64::try_from(of(version)).unwrap_or(i64::MAX)))
}

fn major<'a>(args: &[Value<'a>]) -> Result<'a> {
    number(args, |version| version.major)
}

fn minor<'a>(args: &[Value<'a>]) -> Result<'a> {
    number(args, |version| version.minor)
}

fn patch<'a>(args: &[Value<'a>]) -> Result<'a> {
    number(args, |version| version.patch)
}
