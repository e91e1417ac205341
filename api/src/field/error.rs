//! One thing wrong with one field, and lists of such things.

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use super::path::Path;
use super::quote::{go_json, quote};
use crate::status::Cause;

/// The detail of an [`Error::invalid`] for a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooShort,
    TooMany,
    TooFew,
    TypeInvalid,
    Internal,
}

impl ErrorType {
    /// The reason of a Status cause, such as `FieldValueRequired`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooShort => "FieldValueTooShort",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooShort => "Too short",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::Internal => "Internal error",
        }
    }

    /// Whether the message repeats the offending value.
    const fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal)
    }
}

/// The offending value, as it will be shown.
#[derive(Clone, Debug, PartialEq)]
pub enum BadValue {
    /// Not shown.
    Omitted,
    /// Shown in quotes.
    String(String),
    /// Shown as JSON, except strings (in quotes) and numbers (plain).
    Json(Value),
    /// Shown as it is: for values whose Go form differs from their JSON form.
    Text(String),
}

impl From<&str> for BadValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for BadValue {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<&String> for BadValue {
    fn from(value: &String) -> Self {
        Self::String(value.clone())
    }
}

impl From<Value> for BadValue {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<&Value> for BadValue {
    fn from(value: &Value) -> Self {
        Self::Json(value.clone())
    }
}

macro_rules! from_scalar {
    ($($t:ty),*) => {$(
        impl From<$t> for BadValue {
            fn from(value: $t) -> Self {
                Self::Json(Value::from(value))
            }
        }
    )*};
}
from_scalar!(bool, i32, i64, u16, u32, u64, usize, f64, &[String], Vec<String>);

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Omitted => Ok(()),
            Self::String(text) => f.write_str(&quote(text)),
            Self::Json(Value::String(text)) => f.write_str(&quote(text)),
            Self::Json(value) => f.write_str(&go_json(value)),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub kind: ErrorType,
    /// The rendered path of the field.
    pub field: String,
    pub bad_value: BadValue,
    /// What about the value is wrong; may be empty.
    pub detail: String,
}

impl Error {
    fn build(kind: ErrorType, path: &Path, bad_value: BadValue, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), bad_value, detail: detail.into() }
    }

    /// A value that must be there is not.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Required, path, BadValue::Omitted, detail)
    }

    /// A value that breaks a rule of its form.
    pub fn invalid(path: &Path, value: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Invalid, path, value.into(), detail)
    }

    /// A value of another type than the schema says.
    pub fn type_invalid(path: &Path, value: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::TypeInvalid, path, value.into(), detail)
    }

    /// A value outside a closed set; `supported` is listed in the order given.
    pub fn not_supported<S: AsRef<str>>(path: &Path, value: impl Into<BadValue>, supported: &[S]) -> Self {
        let names: Vec<String> = supported.iter().map(|name| quote(name.as_ref())).collect();
        let detail =
            if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self::build(ErrorType::NotSupported, path, value.into(), detail)
    }

    /// A well-formed value that is not allowed here.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Forbidden, path, BadValue::Omitted, detail)
    }

    /// A value that must be unique and is not.
    pub fn duplicate(path: &Path, value: impl Into<BadValue>) -> Self {
        Self::build(ErrorType::Duplicate, path, value.into(), "")
    }

    /// A reference to something that is not there.
    pub fn not_found(path: &Path, value: impl Into<BadValue>) -> Self {
        Self::build(ErrorType::NotFound, path, value.into(), "")
    }

    /// A value of more than `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        let detail = format!("may not be more than {max} {}", plural(max, "byte"));
        Self::build(ErrorType::TooLong, path, BadValue::Omitted, detail)
    }

    /// A value of more than `max` characters.
    pub fn too_long_characters(path: &Path, max: usize) -> Self {
        let detail = format!("may not be more than {max} {}", plural(max, "character"));
        Self::build(ErrorType::TooLong, path, BadValue::Omitted, detail)
    }

    /// A value of fewer than `min` characters.
    pub fn too_short(path: &Path, min: usize) -> Self {
        let detail = format!("must be at least {min} {}", plural(min, "character"));
        Self::build(ErrorType::TooShort, path, BadValue::Omitted, detail)
    }

    /// A list of `actual` items where at most `max` may be.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} {}", plural(max, "item"));
        Self::build(ErrorType::TooMany, path, actual.into(), detail)
    }

    /// A list of `actual` items where at least `min` must be.
    pub fn too_few(path: &Path, actual: usize, min: usize) -> Self {
        let detail = format!("must have at least {min} {}", plural(min, "item"));
        Self::build(ErrorType::TooFew, path, actual.into(), detail)
    }

    /// Something that is not the fault of who sent the value.
    pub fn internal(path: &Path, error: &dyn fmt::Display) -> Self {
        Self::build(ErrorType::Internal, path, BadValue::Omitted, error.to_string())
    }

    /// The message without the field's path.
    pub fn body(&self) -> String {
        let mut body = self.kind.text().to_owned();
        if self.kind.shows_value() && self.bad_value != BadValue::Omitted {
            body.push_str(": ");
            body.push_str(&self.bad_value.to_string());
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }

    /// The entry of `details.causes` in a Status.
    pub fn cause(&self) -> Cause {
        Cause::new(self.kind.reason(), self.field.clone(), self.body())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// Everything wrong with an object, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorList(Vec<Error>);

impl ErrorList {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    /// The same list when it names faults, nothing when it is empty.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// One cause per error, for a Status.
    pub fn causes(&self) -> Vec<Cause> {
        self.0.iter().map(Error::cause).collect()
    }

    pub fn into_vec(self) -> Vec<Error> {
        self.0
    }
}

impl std::ops::Deref for ErrorList {
    type Target = [Error];

    fn deref(&self) -> &[Error] {
        &self.0
    }
}

impl From<Vec<Error>> for ErrorList {
    fn from(errors: Vec<Error>) -> Self {
        Self(errors)
    }
}

impl From<Error> for ErrorList {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

impl Extend<Error> for ErrorList {
    fn extend<I: IntoIterator<Item = Error>>(&mut self, errors: I) {
        self.0.extend(errors);
    }
}

impl FromIterator<Error> for ErrorList {
    fn from_iter<I: IntoIterator<Item = Error>>(errors: I) -> Self {
        Self(errors.into_iter().collect())
    }
}

impl IntoIterator for ErrorList {
    type Item = Error;
    type IntoIter = std::vec::IntoIter<Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for ErrorList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&aggregate(self.0.iter()))
    }
}

impl std::error::Error for ErrorList {}

/// Several messages as one: `[a, b]` without repetitions, a single one bare, none empty.
pub fn aggregate<E: fmt::Display>(errors: impl IntoIterator<Item = E>) -> String {
    let mut seen = HashSet::new();
    let mut distinct = Vec::new();
    for error in errors {
        let text = error.to_string();
        if seen.insert(text.clone()) {
            distinct.push(text);
        }
    }
    match distinct.len() {
        0 | 1 => distinct.pop().unwrap_or_default(),
        _ => format!("[{}]", distinct.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_render_as_upstream() {
        let path = Path::new("spec").child("x");
        let cases = [
            (Error::required(&path, ""), "spec.x: Required value"),
            (Error::required(&path, "why"), "spec.x: Required value: why"),
            (Error::invalid(&path, "a\"b", "must be c"), "spec.x: Invalid value: \"a\\\"b\": must be c"),
            (Error::invalid(&path, 7, "too big"), "spec.x: Invalid value: 7: too big"),
            (
                Error::invalid(&path, json!({"a": 1}), IMMUTABLE),
                "spec.x: Invalid value: {\"a\":1}: field is immutable",
            ),
            (Error::invalid(&path, json!(null), "no"), "spec.x: Invalid value: null: no"),
            (
                Error::not_supported(&path, "c", &["a", "b"]),
                "spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\"",
            ),
            (Error::forbidden(&path, "not now"), "spec.x: Forbidden: not now"),
            (Error::duplicate(&path, "n"), "spec.x: Duplicate value: \"n\""),
            (Error::not_found(&path, "n"), "spec.x: Not found: \"n\""),
            (Error::too_long(&path, 1), "spec.x: Too long: may not be more than 1 byte"),
            (Error::too_long(&path, 63), "spec.x: Too long: may not be more than 63 bytes"),
            (Error::too_many(&path, 5, 4), "spec.x: Too many: 5: must have at most 4 items"),
            (Error::internal(&path, &"boom"), "spec.x: Internal error: boom"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_list_names_each_fault_once() {
        let path = Path::new("a");
        let mut list = ErrorList::new();
        assert_eq!(list.to_string(), "");
        list.push(Error::required(&path, ""));
        assert_eq!(list.to_string(), "a: Required value");
        list.push(Error::required(&path, ""));
        list.push(Error::forbidden(&path, "x"));
        assert_eq!(list.to_string(), "[a: Required value, a: Forbidden: x]");
    }

    #[test]
    fn a_cause_carries_reason_message_and_field() {
        let cause =
            serde_json::to_value(Error::required(&Path::new("a"), "x").cause()).expect("plain strings");
        assert_eq!(
            cause,
            json!({"reason": "FieldValueRequired", "message": "Required value: x", "field": "a"})
        );
    }
}
