//! Why bytes could not be read as an object.

use std::fmt;

use thiserror::Error;

use crate::field::quote;
use crate::gvk::GroupVersionKind;

/// A document that is no JSON.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SyntaxError(String);

impl SyntaxError {
    pub(super) fn eof() -> Self {
        Self("unexpected end of JSON input".to_owned())
    }

    pub(super) fn too_deep() -> Self {
        Self("exceeded max depth".to_owned())
    }

    pub(super) fn character(byte: u8, context: &str) -> Self {
        let quoted = match byte {
            b'\'' => "\\'".to_owned(),
            b'"' => "\"".to_owned(),
            _ => quote(&char::from(byte).to_string()).trim_matches('"').to_owned(),
        };
        Self(format!("invalid character '{quoted}' {context}"))
    }
}

/// A JSON value of another form than the field's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeError {
    /// What was there: `string`, `number 1.5`, `object`, ...
    pub value: String,
    /// The struct that has the field, by its short name; empty at the top level.
    pub struct_name: String,
    /// The path of the field from the top level, without list indices and map keys.
    pub field: String,
    /// The Go type that was expected, which users know from upstream's messages.
    pub expected: String,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, struct_name, field, expected } = self;
        if struct_name.is_empty() && field.is_empty() {
            return write!(f, "json: cannot unmarshal {value} into Go value of type {expected}");
        }
        write!(
            f,
            "json: cannot unmarshal {value} into Go struct field {struct_name}.{field} of type {expected}"
        )
    }
}

/// Why bytes could not be read as an object. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error("{0}")]
    Type(TypeError),
    /// A scalar whose text is not what its type asks for.
    #[error("{0}")]
    Value(String),
    #[error("couldn't get version/kind; json parse error: {0}")]
    Interpret(Box<DecodeError>),
    #[error("unexpected GroupVersion string: {0}")]
    GroupVersion(String),
    #[error("Object 'Kind' is missing in '{0}'")]
    MissingKind(String),
    #[error("Object 'apiVersion' is missing in '{0}'")]
    MissingVersion(String),
    #[error("no kind {} is registered for version {} in scheme {SCHEME}", GoQuoted(&.0.kind), GoQuoted(&.0.api_version()))]
    UnknownKind(GroupVersionKind),
    /// Not well-formed YAML, or YAML that has no equal in JSON.
    #[error("{0}")]
    Yaml(String),
    /// The parts that a strict decoder refuses, in the order they stand in the document.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
    #[error("{0}")]
    Protobuf(#[from] crate::protobuf::ProtobufError),
}

/// The name upstream gives to the table of built-in kinds.
const SCHEME: &str = "\"pkg/api/legacyscheme/scheme.go:30\"";

/// Displays a text as a Go string literal.
pub struct GoQuoted<'a>(pub &'a str);

impl fmt::Display for GoQuoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(self.0))
    }
}
