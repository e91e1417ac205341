//! The place a rule's faults are told of: a path of fields below `self`.

use crate::structural::{Additional, Structural};

/// The path as errors show it.
///
/// Errors: why it is no path of the schema.
pub(super) fn resolve(path: &str, schema: &Structural) -> Result<String, String> {
    let mut tokens = tokens(path).into_iter();
    let mut at = schema;
    let mut out = String::new();
    while let Some(token) = tokens.next() {
        let name = match token.as_str() {
            "." => tokens.next().ok_or("unexpected end of JSON path")?,
            "[" => {
                let quoted = tokens.next().ok_or("unexpected end of JSON path")?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(name)?;
                match tokens.next().ok_or("unexpected end of JSON path")?.as_str() {
                    "]" => name,
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        if !at.properties.is_empty() {
            at = at.properties.get(&name).ok_or("does not refer to a valid field")?;
            out.push('.');
            out.push_str(&name);
        } else if let Some(Additional::Of(value)) = &at.additional {
            at = value;
            out.push_str(&format!("[{name}]"));
        } else {
            return Err("does not refer to a valid field".to_owned());
        }
    }
    Ok(out.trim_start_matches('.').to_owned())
}

/// Splits at `.`, `[` and `]`, which are tokens of their own, outside of quotes.
fn tokens(path: &str) -> Vec<String> {
    let (mut tokens, mut current, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in path.chars() {
        if quoted {
            current.push(c);
            quoted = c != '\'' || escaped;
            escaped = c == '\\' && !escaped;
        } else if matches!(c, '.' | '[' | ']') {
            if !current.is_empty() {
                tokens.push(std::mem::take(&mut current));
            }
            tokens.push(c.to_string());
        } else {
            quoted = c == '\'' && current.is_empty();
            current.push(c);
        }
    }
    if !current.is_empty() {
        tokens.push(current);
    }
    tokens
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(same @ ('\'' | '\\')) => same,
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid string literal: invalid escape char \\{shown}"));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_follow_the_schema() {
        let schema = Structural::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"a.b": {"type": "string"}, "c": {"type": "string"}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}}}));
        assert_eq!(resolve(".spec.c", &schema).unwrap(), "spec.c");
        assert_eq!(resolve(".spec['a.b']", &schema).unwrap(), "spec.a.b");
        assert_eq!(resolve(".map['x']", &schema).unwrap(), "map[x]");
        assert_eq!(resolve(".spec.d", &schema).unwrap_err(), "does not refer to a valid field");
        assert_eq!(resolve("spec", &schema).unwrap_err(), "expected [ or . but got: spec");
        assert!(resolve(".map[", &schema).is_err() && resolve(".spec['", &schema).is_err());
    }
}
