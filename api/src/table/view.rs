//! Reading an object for its cells. What is missing or of another type reads as empty: what is stored was
//! validated, and a table must never fail.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::selector::Selector;

use super::Cell;
use super::duration;

/// A value in an object, and the time that ages are counted to.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    value: &'a Value,
    pub now: Timestamp,
}

static NULL: Value = Value::Null;

impl<'a> View<'a> {
    pub fn new(value: &'a Value, now: Timestamp) -> Self {
        Self { value, now }
    }

    /// What lies at a path of names between dots; null when nothing does.
    pub fn at(self, path: &str) -> View<'a> {
        let step = |value: Option<&'a Value>, name| value?.get(name);
        let value = path.split('.').fold(Some(self.value), step).unwrap_or(&NULL);
        View { value, now: self.now }
    }

    pub fn value(self) -> &'a Value {
        self.value
    }

    pub fn is_null(self) -> bool {
        self.value.is_null()
    }

    /// The text itself; empty when this is none.
    pub fn text(self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The text at `path`.
    pub fn str(self, path: &str) -> &'a str {
        self.at(path).text()
    }

    /// The text at `path`, or `other` when that is empty.
    pub fn str_or(self, path: &str, other: &'static str) -> &'a str {
        let text = self.str(path);
        if text.is_empty() { other } else { text }
    }

    pub fn int(self, path: &str) -> i64 {
        self.at(path).value.as_i64().unwrap_or_default()
    }

    pub fn bool(self, path: &str) -> bool {
        self.at(path).value.as_bool().unwrap_or_default()
    }

    /// The elements at `path`.
    pub fn items(self, path: &str) -> impl DoubleEndedIterator<Item = View<'a>> + ExactSizeIterator {
        let items = self.at(path).value.as_array().map_or(&[][..], Vec::as_slice);
        items.iter().map(move |value| View { value, now: self.now })
    }

    pub fn count(self, path: &str) -> usize {
        match self.at(path).value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        }
    }

    pub fn fields(self, path: &str) -> Option<&'a Map<String, Value>> {
        self.at(path).value.as_object()
    }

    /// A quantity, number or string as text; `other` when there is none.
    pub fn scalar_or(self, path: &str, other: &'static str) -> Cow<'a, str> {
        match self.at(path).value {
            Value::String(text) => Cow::Borrowed(text),
            Value::Number(number) => Cow::Owned(number.to_string()),
            Value::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
            _ => Cow::Borrowed(other),
        }
    }

    pub fn time(self, path: &str) -> Option<Timestamp> {
        self.str(path).parse().ok()
    }

    /// The age of the time at `path`.
    pub fn age_of(self, path: &str) -> String {
        duration::age(self.time(path), self.now)
    }

    pub fn name(self) -> Cell<'a> {
        self.str("metadata.name").into()
    }

    /// The object's age.
    pub fn age(self) -> Cell<'a> {
        self.age_of("metadata.creationTimestamp").into()
    }

    pub fn is_deleted(self) -> bool {
        !self.at("metadata.deletionTimestamp").is_null()
    }

    /// The condition of this type among those at `path`.
    pub fn condition(self, path: &str, kind: &str) -> Option<View<'a>> {
        self.items(path).find(|condition| condition.str("type") == kind)
    }

    /// Whether the first condition of this type is True.
    pub fn is_true(self, path: &str, kind: &str) -> bool {
        self.condition(path, kind).is_some_and(|condition| condition.str("status") == "True")
    }

    /// The texts at `path`, with commas between.
    pub fn joined(self, path: &str) -> String {
        join(self.items(path).map(View::text), ",")
    }

    /// The map of strings at `path` as `a=b,c=d`; `<none>` when empty.
    pub fn labels(self, path: &str) -> String {
        let pairs = self.fields(path).into_iter().flatten();
        or_none(join(pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())), ","))
    }

    /// The LabelSelector at `path`; `<none>` when empty, `<error>` when it is none.
    pub fn selector(self, path: &str) -> String {
        match Selector::from_label_selector(Some(self.at(path).value)) {
            Ok(selector) => or_none(selector.to_string()),
            Err(_) => "<error>".to_owned(),
        }
    }

    /// Names and images of the containers of the pod spec at `path`.
    pub fn containers(self, path: &str) -> [Cell<'a>; 2] {
        let spec = self.at(path);
        let all = |field| join(spec.items("containers").map(|container| container.str(field)), ",").into();
        [all("name"), all("image")]
    }
}

pub(super) fn join<S: AsRef<str>>(texts: impl IntoIterator<Item = S>, separator: &str) -> String {
    let mut out = String::new();
    for (i, text) in texts.into_iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        out.push_str(text.as_ref());
    }
    out
}

pub(super) fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

/// At most `most` of the texts, and how many more there are; `<unset>` for none.
pub(super) fn some_of(texts: Vec<String>, most: usize) -> String {
    if texts.is_empty() {
        return "<unset>".to_owned();
    }
    clipped(texts, most, ",")
}

/// At most `most` of the texts, and how many more there are.
pub(super) fn clipped(texts: Vec<String>, most: usize, separator: &str) -> String {
    let shown = join(&texts[..texts.len().min(most)], separator);
    if texts.len() > most { format!("{shown} + {} more...", texts.len() - most) } else { shown }
}
