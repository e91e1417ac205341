//! The kind that a document says it is.

use super::error::{DecodeError, SyntaxError, TypeError};
use super::scan::{self, Scanner};
use crate::gvk::{GroupVersion, GroupVersionKind};

/// `apiVersion` and `kind` as they stand in a document; empty when missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

impl TypeMeta {
    /// Reads the two fields and nothing else. The whole document must be JSON.
    pub fn of_json(bytes: &[u8]) -> Result<Self, DecodeError> {
        let interpret = |error: DecodeError| DecodeError::Interpret(Box::new(error));
        scan::check(bytes).map_err(|error| interpret(error.into()))?;
        read(bytes)
            .map_err(|error| interpret(error.into()))?
            .map_err(|error| interpret(DecodeError::Type(error)))
    }

    /// The coordinates, with what is missing taken from `default`.
    pub fn with_defaults(self, default: &GroupVersionKind) -> Result<GroupVersionKind, DecodeError> {
        let (group, version) = match self.api_version.as_str() {
            // Upstream reads a lone slash as nothing, too.
            "" | "/" => (default.group.clone(), default.version.clone()),
            text if text.matches('/').count() > 1 => return Err(DecodeError::GroupVersion(text.to_owned())),
            text => {
                let (group, version) = text.split_once('/').unwrap_or(("", text));
                let given = GroupVersion::new(group.to_owned(), version.to_owned());
                if version.is_empty() && given.group == default.group {
                    (given.group, default.version.clone())
                } else {
                    (given.group, given.version)
                }
            }
        };
        let kind = if self.kind.is_empty() { default.kind.clone() } else { self.kind.into() };
        Ok(GroupVersionKind { group, version, kind })
    }
}

/// The outer error is a document that is no JSON, the inner one a field that is no string.
fn read(bytes: &[u8]) -> Result<Result<TypeMeta, TypeError>, SyntaxError> {
    let mut meta = TypeMeta::default();
    let mut wrong = None;
    let mut scan = Scanner::new(bytes);
    let start = scan.peek()?;
    if start != b'{' {
        let wrong = (start != b'n').then(|| not_a_string(start, ""));
        return Ok(wrong.map_or(Ok(meta), Err));
    }
    scan.enter()?;
    let mut first = true;
    while let Some(key) = scan.key(first)? {
        first = false;
        let start = scan.peek()?;
        // This one reader of upstream's is case-insensitive.
        let (field, name) = match () {
            () if key.eq_ignore_ascii_case("kind") => (&mut meta.kind, "kind"),
            () if key.eq_ignore_ascii_case("apiVersion") => (&mut meta.api_version, "apiVersion"),
            () => {
                scan.skip()?;
                continue;
            }
        };
        if start == b'"' {
            *field = scan.string()?.into_owned();
            continue;
        }
        scan.skip()?;
        if start != b'n' {
            wrong.get_or_insert_with(|| not_a_string(start, name));
        }
    }
    Ok(wrong.map_or(Ok(meta), Err))
}

fn not_a_string(start: u8, field: &str) -> TypeError {
    let value = match start {
        b'{' => "object",
        b'[' => "array",
        b'"' => "string",
        b't' | b'f' => "bool",
        _ => "number",
    };
    let expected = match field {
        "" => {
            "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }"
        }
        _ => "string",
    };
    TypeError {
        value: value.to_owned(),
        struct_name: String::new(),
        field: field.to_owned(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_come_from_the_default() {
        let default = GroupVersionKind::new("apps", "v1", "Deployment");
        let read =
            |text: &str| TypeMeta::of_json(text.as_bytes()).and_then(|meta| meta.with_defaults(&default));
        assert_eq!(read("{}").expect("empty"), default);
        assert_eq!(
            read(r#"{"kind":"Pod","apiVersion":"v1"}"#).expect("pod"),
            GroupVersionKind::new("", "v1", "Pod")
        );
        assert_eq!(
            read(r#"{"apiVersion":"a/b/c"}"#).expect_err("slashes").to_string(),
            "unexpected GroupVersion string: a/b/c"
        );
        assert_eq!(
            read(r#"{"kind":5}"#).expect_err("number").to_string(),
            "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string"
        );
        assert_eq!(
            read("{").expect_err("syntax").to_string(),
            "couldn't get version/kind; json parse error: unexpected end of JSON input"
        );
    }
}
