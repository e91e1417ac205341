//! Field selectors on what only a webhook's conversion shows: the cache has objects as they are stored, where these
//! fields may be elsewhere or be absent, so that they are looked at in the version that is served.

use std::borrow::Cow;

use knarr_api::status::Status;
use serde_json::Value;

use crate::cache::{Entry, EventType};
use crate::catalogue::Resource;
use crate::conversion;

/// One requirement on a field of the served version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// The keys on the way to the value.
    path: Vec<Box<str>>,
    equals: bool,
    value: Box<str>,
}

impl Term {
    fn matches(&self, object: &Value) -> bool {
        let found = self.path.iter().try_fold(object, |at, key| at.get(&**key));
        let text: Cow<'_, str> = match found {
            Some(Value::String(text)) => text.into(),
            Some(number @ Value::Number(_)) => number.to_string().into(),
            Some(Value::Bool(flag)) => flag.to_string().into(),
            _ => "".into(),
        };
        (text == *self.value) == self.equals
    }
}

/// The part of a field selector that the cache cannot tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedFields(Vec<Term>);

impl ServedFields {
    /// Whether the resource's selectable fields must be looked for here.
    pub fn are_needed(resource: &Resource) -> bool {
        conversion::asks_webhook(resource)
    }

    /// `field` is a path with dots, as a selector names it.
    pub fn push(&mut self, field: &str, equals: bool, value: &str) {
        let path = field.split('.').map(Into::into).collect();
        self.0.push(Term { path, equals, value: value.into() });
    }

    /// Nothing is left to be looked at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of an object as it is served.
    pub fn match_object(&self, object: &Value) -> bool {
        self.0.iter().all(|term| term.matches(object))
    }

    /// What a change is to who sees only the matching objects, and the object it shows; `None` when it is nothing.
    /// `kind` is what the change is to the cache, which knows labels and names.
    pub async fn see(
        &self,
        resource: &Resource,
        kind: EventType,
        current: Option<&Entry>,
        previous: Option<&Entry>,
        revision: u64,
    ) -> Result<Option<(EventType, Value)>, Status> {
        let current = current.filter(|_| kind != EventType::Deleted);
        let previous = previous.filter(|_| kind != EventType::Added);
        // What is gone is shown as it was, at the revision of its going.
        let states = previous.map(|entry| entry.stored.at(revision)).into_iter();
        let states = states.chain(current.map(|entry| entry.stored.at(revision)));
        let states = states.map(|stored| stored.to_value().map_err(Status::internal));
        let served = conversion::all_to_served(resource, states.collect::<Result<_, _>>()?).await?;
        let mut served = served.into_iter();
        let before = previous.and_then(|_| served.next()).filter(|object| self.match_object(object));
        let after = current.and_then(|_| served.next()).filter(|object| self.match_object(object));
        Ok(match (before, after) {
            (None, Some(now)) => Some((EventType::Added, now)),
            (Some(_), Some(now)) => Some((EventType::Modified, now)),
            (Some(gone), None) => Some((EventType::Deleted, gone)),
            (None, None) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(field: &str, equals: bool, value: &str) -> ServedFields {
        let mut fields = ServedFields::default();
        fields.push(field, equals, value);
        fields
    }

    #[test]
    fn values_are_compared_as_their_text_and_what_is_absent_is_empty() {
        let object = json!({"spec": {"host": "a", "port": 80, "on": true, "more": {}}});
        for (field, value) in [
            ("spec.host", "a"),
            ("spec.port", "80"),
            ("spec.on", "true"),
            ("spec.off", ""),
            ("spec.host.x", ""),
            ("spec.more", ""),
        ] {
            assert!(wanted(field, true, value).match_object(&object), "{field}={value}");
            assert!(!wanted(field, false, value).match_object(&object), "{field}!={value}");
        }
        assert!(!wanted("spec.host", true, "b").match_object(&object));
    }
}
