//! Field selectors on what only a webhook's conversion shows: the cache has objects as they are stored, where these
//! fields may be elsewhere or be absent, so that they are looked at in the version that is served.

use std::sync::Arc;

use knarr_api::status::Status;
use serde_json::Value;

use crate::cache::{EventType, Extractor, States};
use crate::catalogue::Resource;
use crate::conversion;

/// One requirement on a field of the served version.
#[derive(Debug, Clone)]
struct Term {
    field: usize,
    equals: bool,
    value: Box<str>,
}

/// The part of a field selector that the cache cannot tell.
#[derive(Debug, Clone)]
pub struct ServedFields {
    fields: Vec<Box<str>>,
    terms: Vec<Term>,
    extractor: Arc<Extractor>,
}

impl Default for ServedFields {
    fn default() -> Self {
        Self { fields: Vec::new(), terms: Vec::new(), extractor: Arc::new(Extractor::new([])) }
    }
}

impl ServedFields {
    /// Whether the resource's selectable fields must be looked for here.
    pub fn are_needed(resource: &Resource) -> bool {
        conversion::asks_webhook(resource)
    }

    /// `field` is a path with dots, as a selector names it.
    pub fn push(&mut self, field: &str, equals: bool, value: &str) {
        let at = self.fields.iter().position(|known| &**known == field).unwrap_or_else(|| {
            self.fields.push(field.into());
            self.extractor = Arc::new(Extractor::new(self.fields.iter().map(|field| (&**field, ""))));
            self.fields.len() - 1
        });
        self.terms.push(Term { field: at, equals, value: value.into() });
    }

    /// Nothing is left to be looked at.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Of an object as it is served.
    pub fn match_object(&self, object: &Value) -> Result<bool, Status> {
        if self.terms.is_empty() {
            return Ok(true);
        }
        let found = self.extractor.extract_from(object).map_err(Status::internal)?.fields;
        Ok(self.terms.iter().all(|term| (found[term.field] == term.value) == term.equals))
    }

    /// What a change is to who sees only the matching objects, and the object it shows; `None` when it is nothing.
    /// `kind` is what the change is to the cache, which knows labels and names.
    pub fn see<'a>(
        &self,
        kind: EventType,
        States { before, after }: &'a States,
    ) -> Result<Option<(EventType, &'a Value)>, Status> {
        let matching = |object: Option<&'a Value>| match object {
            Some(object) => Ok(self.match_object(object)?.then_some(object)),
            None => Ok::<_, Status>(None),
        };
        let before = matching(before.as_ref().filter(|_| kind != EventType::Added))?;
        let after = matching(after.as_ref().filter(|_| kind != EventType::Deleted))?;
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

    fn matches(fields: &ServedFields, object: &Value) -> bool {
        fields.match_object(object).expect("an object")
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
            assert!(matches(&wanted(field, true, value), &object), "{field}={value}");
            assert!(!matches(&wanted(field, false, value), &object), "{field}!={value}");
        }
        let mut both = wanted("spec.host", false, "b");
        assert!(matches(&both, &object));
        both.push("spec.host", false, "a");
        assert!(!matches(&both, &object), "each requirement on a field counts");
    }
}
