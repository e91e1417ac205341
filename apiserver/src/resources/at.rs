//! A field together with where it sits, as validation reads an object.

use knarr_api::field::{BadValue, Error, ErrorList, Path};
use knarr_api::quantity::Quantity;
use serde_json::Value;

/// A value that may be absent, and its path. Decoding has seen to the types; a value of another type reads as absent.
#[derive(Clone)]
pub struct At<'a> {
    value: Option<&'a Value>,
    path: Path,
}

impl<'a> At<'a> {
    /// The object itself.
    pub const fn root(object: &'a Value) -> Self {
        Self { value: Some(object), path: Path::nil() }
    }

    pub const fn new(value: Option<&'a Value>, path: Path) -> Self {
        Self { value, path }
    }

    /// A field of this struct.
    pub fn at(&self, field: &'static str) -> Self {
        self.named(field, field)
    }

    /// A field that upstream calls by another name in its errors.
    pub fn named(&self, field: &str, name: &'static str) -> Self {
        Self { value: self.get(field), path: self.path.child(name) }
    }

    /// A field of this struct, if it is set.
    pub fn some(&self, field: &'static str) -> Option<Self> {
        self.get(field).map(|value| Self { value: Some(value), path: self.path.child(field) })
    }

    /// The value of a field without its path.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.value?.get(field).filter(|value| !value.is_null())
    }

    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// A text field; empty when absent.
    pub fn text(&self, field: &str) -> &'a str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn int(&self, field: &str) -> Option<i64> {
        self.get(field).and_then(Value::as_i64)
    }

    pub fn flag(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A list field; empty when absent.
    pub fn list(&self, field: &str) -> &'a [Value] {
        self.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// The elements of a list field.
    pub fn items(&self, field: &'static str) -> impl Iterator<Item = Self> + use<'a> {
        let path = self.path.child(field);
        self.list(field)
            .iter()
            .enumerate()
            .map(move |(i, item)| Self { value: Some(item), path: path.index(i) })
    }

    /// The entries of a map field.
    pub fn entries(&self, field: &'static str) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let path = self.path.child(field);
        let map = self.get(field).and_then(Value::as_object).into_iter().flatten();
        map.map(move |(key, value)| (key.as_str(), Self { value: Some(value), path: path.key(key.clone()) }))
    }

    /// The texts of a list field.
    pub fn texts(&self, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.list(field).iter().filter_map(Value::as_str)
    }

    /// A list field or a map field that is set and holds something.
    pub fn filled(&self, field: &str) -> bool {
        match self.get(field) {
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
            None => false,
        }
    }

    pub const fn path(&self) -> &Path {
        &self.path
    }

    pub const fn value(&self) -> Option<&'a Value> {
        self.value
    }

    /// This value as text; empty when it is none.
    pub fn str(&self) -> &'a str {
        self.value.and_then(Value::as_str).unwrap_or_default()
    }

    pub fn i64(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    pub fn quantity(&self) -> Option<Quantity> {
        Quantity::from_json(self.value?).ok()
    }

    fn bad(&self) -> BadValue {
        match self.value {
            Some(value) => value.into(),
            None => "".into(),
        }
    }

    pub fn required(&self, detail: impl Into<String>) -> Error {
        Error::required(&self.path, detail)
    }

    /// This value is wrong.
    pub fn invalid(&self, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, self.bad(), detail)
    }

    /// This field is wrong, and the error shows another value.
    pub fn invalid_as(&self, value: impl Into<BadValue>, detail: impl Into<String>) -> Error {
        Error::invalid(&self.path, value, detail)
    }

    pub fn unsupported(&self, supported: &[&str]) -> Error {
        Error::not_supported(&self.path, self.bad(), supported)
    }

    pub fn forbidden(&self, detail: impl Into<String>) -> Error {
        Error::forbidden(&self.path, detail)
    }

    pub fn duplicate(&self) -> Error {
        Error::duplicate(&self.path, self.bad())
    }

    pub fn not_found(&self) -> Error {
        Error::not_found(&self.path, self.bad())
    }

    /// Everything that a rule for texts has against this one.
    pub fn check(&self, errors: &mut ErrorList, rule: impl Fn(&str) -> Vec<String>) {
        errors.extend(rule(self.str()).into_iter().map(|wrong| self.invalid(wrong)));
    }

    /// Everything that a rule for numbers has against this one; nothing when it is absent.
    pub fn check_int(&self, errors: &mut ErrorList, rule: impl Fn(i64) -> Vec<String>) {
        let wrong = self.i64().map(rule).unwrap_or_default();
        errors.extend(wrong.into_iter().map(|wrong| self.invalid(wrong)));
    }

    /// A text that must be there, and the rule for it.
    pub fn require(&self, errors: &mut ErrorList, rule: impl Fn(&str) -> Vec<String>) {
        if self.str().is_empty() {
            errors.push(self.required(""));
        } else {
            self.check(errors, rule);
        }
    }

    /// A text that must be there.
    pub fn require_text(&self, errors: &mut ErrorList) {
        if self.str().is_empty() {
            errors.push(self.required(""));
        }
    }

    /// A text that must be one of a few and must be there.
    pub fn require_one_of(&self, errors: &mut ErrorList, supported: &[&str]) {
        if self.str().is_empty() {
            errors.push(self.required(""));
        } else {
            self.one_of(errors, supported);
        }
    }

    /// A text that must be one of a few.
    pub fn one_of(&self, errors: &mut ErrorList, supported: &[&str]) {
        if !supported.contains(&self.str()) {
            errors.push(self.unsupported(supported));
        }
    }

    /// A number that must not be negative; absent is zero.
    pub fn nonnegative(&self, errors: &mut ErrorList) {
        if self.i64().is_some_and(|value| value < 0) {
            errors.push(self.invalid(NOT_NEGATIVE));
        }
    }

    /// A number that must be greater than zero; absent is zero.
    pub fn positive(&self, errors: &mut ErrorList) {
        let value = self.i64().unwrap_or_default();
        if value <= 0 {
            errors.push(self.invalid_as(value, NOT_POSITIVE));
        }
    }

    /// A field that must stay what it was.
    pub fn immutable(&self, errors: &mut ErrorList, old: &At<'_>) {
        if !same(self.value, old.value) {
            let value = self.value.cloned().unwrap_or_default();
            errors.push(self.invalid_as(value, knarr_api::field::IMMUTABLE));
        }
    }
}

/// Whether two values mean the same: absent, null and empty do.
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let empty = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    };
    a == b || (empty(a) && empty(b))
}

pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub const NOT_POSITIVE: &str = "must be greater than zero";
