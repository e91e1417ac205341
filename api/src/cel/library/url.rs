//! URLs, as Go reads them.

use std::rc::Rc;

use super::{Result, no_overload};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Map, Opaque, Value};
use crate::field::quote;

pub(super) const FUNCTIONS: &[Definition] = &[
    ("url", parse, &[("string_to_url", "string -> url")]),
    ("isURL", is_url, &[("is_url_string", "string -> bool")]),
    ("getScheme", scheme, &[("url_get_scheme", ". url -> string")]),
    ("getHost", host, &[("url_get_host", ". url -> string")]),
    ("getHostname", hostname, &[("url_get_hostname", ". url -> string")]),
    ("getPort", port, &[("url_get_port", ". url -> string")]),
    ("getEscapedPath", path, &[("url_get_escaped_path", ". url -> string")]),
    ("getQuery", query, &[("url_get_query", ". url -> map(string, list(string))")]),
];

/// The parts of an absolute URL, or of an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Reads a URL.
    ///
    /// Errors: why it is none, in Go's words.
    pub(super) fn read(text: &str) -> std::result::Result<Self, String> {
        let failed = |why: String| format!("parse {}: {why}", quote(text));
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err(failed("net/url: invalid control character in URL".into()));
        }
        if text.is_empty() {
            return Err(failed("empty url".into()));
        }
        let whole = text.split('#').next().unwrap_or_default();
        let (scheme, rest) = split_scheme(whole).map_err(|why| failed(why.into()))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            let why = if scheme.is_empty() { "invalid URI for request" } else { "" };
            // Something like `mailto:x` is a URL without a path.
            if !why.is_empty() {
                return Err(failed(why.into()));
            }
            let (text, scheme) = (text.to_owned(), scheme.to_lowercase());
            return Ok(Self {
                text,
                scheme,
                host: String::new(),
                path: String::new(),
                query: query.to_owned(),
            });
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() || !rest.starts_with('/') => {
                let end = rest.find('/').unwrap_or(rest.len());
                (&rest[..end], &rest[end..])
            }
            _ => ("", rest),
        };
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        check_host(host).map_err(failed)?;
        check_escapes(path).map_err(failed)?;
        Ok(Self {
            text: text.to_owned(),
            scheme: scheme.to_lowercase(),
            host: host.to_owned(),
            path: escaped(path),
            query: query.to_owned(),
        })
    }

    fn hostname(&self) -> &str {
        let name = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        };
        name.trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => "",
        }
    }
}

fn split_scheme(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    let first = text.split('/').next().unwrap_or_default();
    if first.contains(':') {
        return Err("first path segment in URL cannot contain colon");
    }
    Ok(("", text))
}

fn check_host(host: &str) -> std::result::Result<(), String> {
    let after = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("missing ']' in host")?.1,
        None => &host[host.rfind(':').unwrap_or(host.len())..],
    };
    let digits = after.strip_prefix(':').unwrap_or(after);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("invalid port {} after host", quote(after)));
    }
    match host.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        Some(c) => Err(format!("invalid character {} in host name", quote(&c.to_string()))),
        None => Ok(()),
    }
}

fn check_escapes(path: &str) -> std::result::Result<(), String> {
    for (at, _) in path.match_indices('%') {
        let digits = path.as_bytes().get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let shown: String = path[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", quote(&shown)));
        }
    }
    Ok(())
}

/// The path with what must be escaped escaped.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b' ' | 0x7f.. => {
                out.push_str(&format!("%{byte:02X}"));
            }
            byte => out.push(char::from(byte)),
        }
    }
    out
}

/// Decodes a part of a query; none if an escape is broken.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn of<'v>(args: &'v [Value<'_>]) -> std::result::Result<&'v Url, EvalError> {
    match args {
        [Value::Opaque(value)] => match &**value {
            Opaque::Url(url) => Ok(url),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn parse<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    let url = Url::read(text)
        .map_err(|why| EvalError::failed(format!("URL parse error during conversion from string: {why}")))?;
    Ok(Opaque::Url(url).into())
}

fn is_url<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    Ok(Url::read(text).is_ok().into())
}

fn scheme<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(of(args)?.scheme.clone().into())
}

fn host<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(of(args)?.host.clone().into())
}

fn hostname<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(of(args)?.hostname().to_owned().into())
}

fn port<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(of(args)?.port().to_owned().into())
}

fn path<'a>(args: &[Value<'a>]) -> Result<'a> {
    Ok(of(args)?.path.clone().into())
}

fn query<'a>(args: &[Value<'a>]) -> Result<'a> {
    let mut found: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for pair in of(args)?.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) else { continue };
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value.into()),
            None => found.push((key, vec![value.into()])),
        }
    }
    let entries = found.into_iter().map(|(key, values)| (key.into(), values.into()));
    Ok(Value::Map(Map::Made(Rc::new(entries.collect()))))
}
