//! Field selectors: `metadata.name=web,status.phase!=Running`, with `\`, `,` and `=` escaped in values.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// The selectable fields of an object. A field that is not there reads as empty, as upstream has it.
pub trait Fields {
    /// The value of `field`.
    fn get(&self, field: &str) -> &str;
}

impl<F: Fn(&str) -> &'static str> Fields for F {
    fn get(&self, field: &str) -> &str {
        self(field)
    }
}

impl Fields for Map<String, Value> {
    fn get(&self, field: &str) -> &str {
        Map::get(self, field).and_then(Value::as_str).unwrap_or_default()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Fields for [(K, V)] {
    fn get(&self, field: &str) -> &str {
        self.iter().find(|(name, _)| name.as_ref() == field).map_or("", |(_, value)| value.as_ref())
    }
}

/// Why a field selector is refused; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    /// Whether the field must differ from the value rather than equal it.
    pub negated: bool,
}

/// Which fields' values are meant: all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// The selector that every object matches.
    pub const fn everything() -> Self {
        Self { terms: Vec::new() }
    }

    /// The selector of `field` being `value`.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self { terms: vec![FieldTerm { field: field.into(), value: value.into(), negated: false }] }
    }

    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether `fields` fulfil every term.
    pub fn matches<F: Fields + ?Sized>(&self, fields: &F) -> bool {
        self.terms.iter().all(|term| (fields.get(&term.field) == term.value) != term.negated)
    }

    /// The one value `field` must have, if the selector says so.
    pub fn requires_exact_match(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| !term.negated && term.field == field)?;
        Some(&term.value)
    }

    /// The selector with each field and value replaced by what `convert` gives for them: where a resource
    /// renames fields between versions or refuses those it cannot select by. A term converted to two empty
    /// strings goes.
    ///
    /// # Errors
    /// The first that `convert` gives.
    pub fn transform<E>(
        self,
        mut convert: impl FnMut(&str, &str) -> Result<(String, String), E>,
    ) -> Result<Self, E> {
        let mut terms = Vec::with_capacity(self.terms.len());
        for term in self.terms {
            let (field, value) = convert(&term.field, &term.value)?;
            if !(field.is_empty() && value.is_empty()) {
                terms.push(FieldTerm { field, value, negated: term.negated });
            }
        }
        Ok(Self { terms })
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape_value(&term.value))?;
        }
        Ok(())
    }
}

impl FromStr for FieldSelector {
    type Err = FieldSelectorError;

    fn from_str(selector: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split_terms(selector);
        parts.sort_unstable();
        let mut terms = Vec::with_capacity(parts.len());
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (field, negated, value) = split_term(part).ok_or_else(|| FieldSelectorError::Term {
                selector: selector.to_owned(),
                term: part.to_owned(),
            })?;
            let value = unescape_value(value)?.into_owned();
            terms.push(FieldTerm { field: field.to_owned(), value, negated });
        }
        Ok(Self { terms })
    }
}

/// The parts between commas that are not escaped.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, b) in selector.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&selector[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// The field, whether the operator is `!=`, and the value; the first operator counts.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let equals = term.find('=')?;
    let at = if term[..equals].ends_with('!') { equals - 1 } else { equals };
    let rest = &term[at..];
    let (negated, length) = match rest {
        _ if rest.starts_with("!=") => (true, 2),
        _ if rest.starts_with("==") => (false, 2),
        _ => (false, 1),
    };
    Some((&term[..at], negated, &rest[length..]))
}

/// `value` as it is written in a selector.
pub fn escape_value(value: &str) -> Cow<'_, str> {
    if !value.contains(['\\', ',', '=']) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 4);
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    Cow::Owned(out)
}

/// The value that `text` in a selector stands for.
///
/// # Errors
/// An escape of anything but `\`, `,` and `=`, or one of these without an escape.
pub fn unescape_value(text: &str) -> Result<Cow<'_, str>, FieldSelectorError> {
    if !text.contains(['\\', ',', '=']) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => return Err(FieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<FieldSelector, String> {
        text.parse().map_err(|error: FieldSelectorError| error.to_string())
    }

    #[test]
    fn terms_are_sorted_and_escaped() {
        let cases = [
            ("", ""),
            ("z=c,,x==a,y!=b", "x=a,y!=b,z=c"),
            (r"x=a\,b\=c\\", r"x=a\,b\=c\\"),
            ("x=", "x="),
            ("=x", "=x"),
        ];
        for (text, canonical) in cases {
            assert_eq!(parse(text).map(|s| s.to_string()).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        let cases = [
            ("x", "invalid selector: 'x'; can't understand 'x'"),
            ("a=b,x!y", "invalid selector: 'a=b,x!y'; can't understand 'x!y'"),
            (r"x=\a", r"invalid field selector: invalid escape sequence: \a"),
            ("x=a=b", "invalid field selector: unescaped character in value: 61"),
            (r"x=\", r"invalid field selector: invalid escape sequence: \"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_absent_field_reads_as_empty() {
        let fields: &[(&str, &str)] = &[("metadata.name", "a")];
        for text in ["metadata.name=a", "spec.nodeName=", "spec.nodeName!=b", ""] {
            assert!(parse(text).is_ok_and(|s| s.matches(fields)), "{text}");
        }
        assert!(parse("metadata.name!=a").is_ok_and(|s| !s.matches(fields)));
    }

    #[test]
    fn transforming_renames_and_drops() {
        let convert = |field: &str, value: &str| match field {
            "old" => Ok(("new".to_owned(), value.to_owned())),
            "any" => Ok((String::new(), String::new())),
            other => Err(other.to_owned()),
        };
        let selector = parse("old=1,any=2").expect("valid");
        assert_eq!(selector.transform(convert).map(|s| s.to_string()), Ok("new=1".to_owned()));
        assert_eq!(parse("x=1").expect("valid").transform(convert), Err("x".to_owned()));
    }

    proptest! {
        #[test]
        fn any_value_survives_escaping(value in ".*") {
            let escaped = escape_value(&value);
            prop_assert_eq!(unescape_value(&escaped), Ok(Cow::Borrowed(value.as_str())));
            let text = FieldSelector::equals("a.b", &value).to_string();
            prop_assert_eq!(parse(&text), Ok(FieldSelector::equals("a.b", &value)));
        }
    }
}
