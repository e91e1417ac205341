//! Text. Positions count characters.

use super::{Result, no_overload, text_format};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::Value;

/// Text that a function makes may not be longer: repeated replacement doubles.
const MAX_MADE: usize = 4 << 20;

pub(super) const FUNCTIONS: &[Definition] = &[
    ("contains", contains, &[("contains_string", ". string, string -> bool")]),
    ("startsWith", starts_with, &[("starts_with_string", ". string, string -> bool")]),
    ("endsWith", ends_with, &[("ends_with_string", ". string, string -> bool")]),
    ("charAt", char_at, &[("string_char_at_int", ". string, int -> string")]),
    ("lowerAscii", lower, &[("string_lower_ascii", ". string -> string")]),
    ("upperAscii", upper, &[("string_upper_ascii", ". string -> string")]),
    ("trim", trim, &[("string_trim", ". string -> string")]),
    (
        "replace",
        replace,
        &[
            ("string_replace_string_string", ". string, string, string -> string"),
            ("string_replace_string_string_int", ". string, string, string, int -> string"),
        ],
    ),
    (
        "split",
        split,
        &[
            ("string_split_string", ". string, string -> list(string)"),
            ("string_split_string_int", ". string, string, int -> list(string)"),
        ],
    ),
    (
        "substring",
        substring,
        &[
            ("string_substring_int", ". string, int -> string"),
            ("string_substring_int_int", ". string, int, int -> string"),
        ],
    ),
    (
        "join",
        join,
        &[
            ("list_join", ". list(string) -> string"),
            ("list_join_string", ". list(string), string -> string"),
        ],
    ),
    ("format", format, &[("string_format", ". string, list(dyn) -> string")]),
    ("strings.quote", quote, &[("strings_quote", "string -> string")]),
    ("jsonpatch.escapeKey", escape_key, &[("string_jsonpatch_escapeKey_string", "string -> string")]),
];

fn made<'a>(text: String) -> Result<'a> {
    if text.len() > MAX_MADE {
        return Err(EvalError::failed("the text is too long"));
    }
    Ok(text.into())
}

fn contains<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), Value::String(part)] = args else { return no_overload() };
    Ok(text.contains(&**part).into())
}

fn starts_with<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), Value::String(part)] = args else { return no_overload() };
    Ok(text.starts_with(&**part).into())
}

fn ends_with<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), Value::String(part)] = args else { return no_overload() };
    Ok(text.ends_with(&**part).into())
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text), Value::Int(at)] = args else { return no_overload() };
    let out = || EvalError::failed(format!("index out of range: {at}"));
    let index = usize::try_from(*at).map_err(|_| out())?;
    match text.chars().nth(index) {
        Some(c) => Ok(c.to_string().into()),
        None if index == text.chars().count() => Ok("".into()),
        None => Err(out()),
    }
}

fn lower<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(text.to_ascii_lowercase().into())
}

fn upper<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(text.to_ascii_uppercase().into())
}

fn trim<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(text.trim().to_owned().into())
}

fn replace<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, from, to, count) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [Value::String(text), Value::String(from), Value::String(to), Value::Int(count)] => {
            (text, from, to, *count)
        }
        _ => return no_overload(),
    };
    let grown = text.len().saturating_add(1).saturating_mul(to.len());
    if grown > MAX_MADE
        && text.len() + grown > MAX_MADE
        && text.matches(&**from).count() * to.len() > MAX_MADE
    {
        return Err(EvalError::failed("the text is too long"));
    }
    made(match usize::try_from(count) {
        Ok(count) => text.replacen(&**from, to, count),
        Err(_) => text.replace(&**from, to),
    })
}

fn split<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return no_overload(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Vec::new().into());
    }
    let parts: Vec<Value<'a>> = if separator.is_empty() {
        characters(text, limit)
    } else {
        text.splitn(limit, &**separator).map(|part| part.to_owned().into()).collect()
    };
    Ok(parts.into())
}

/// Every character on its own, and what is over the limit in the last part.
fn characters<'a>(text: &str, limit: usize) -> Vec<Value<'a>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if parts.len() + 1 == limit {
            parts.push(rest.to_owned().into());
            break;
        }
        parts.push(c.to_string().into());
        rest = &rest[c.len_utf8()..];
    }
    parts
}

fn substring<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return no_overload(),
    };
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let end = end.unwrap_or(length);
    if start > end {
        return Err(EvalError::failed(format!("invalid substring range. start: {start}, end: {end}")));
    }
    for at in [start, end] {
        if at < 0 || at > length {
            return Err(EvalError::failed(format!("index out of range: {at}")));
        }
    }
    let (skip, take) = (usize::try_from(start).unwrap_or(0), usize::try_from(end - start).unwrap_or(0));
    Ok(text.chars().skip(skip).take(take).collect::<String>().into())
}

fn join<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return no_overload(),
    };
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        let Value::String(item) = item? else { return no_overload() };
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(&item);
        if out.len() > MAX_MADE {
            return made(out);
        }
    }
    Ok(out.into())
}

fn format<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(pattern), Value::List(args)] = args else { return no_overload() };
    made(text_format::format(pattern, &args.to_vec()?)?)
}

fn quote<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    Ok(out.into())
}

fn escape_key<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(text.replace('~', "~0").replace('/', "~1").into())
}
