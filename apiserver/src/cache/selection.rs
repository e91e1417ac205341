//! What a list or watch wants: a namespace, a name, and selectors on labels and fields.

use knarr_api::selector::Selector;

use super::entry::Entry;

/// Where the value of a field term comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSource {
    Name,
    Namespace,
    /// The position in [`Entry::fields`].
    Slot(usize),
    /// A field that may be named and is never set.
    Absent,
}

/// One requirement of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub source: FieldSource,
    pub equals: bool,
    pub value: Box<str>,
}

impl FieldTerm {
    fn matches(&self, entry: &Entry) -> bool {
        let value = match self.source {
            FieldSource::Name => entry.name(),
            FieldSource::Namespace => entry.namespace(),
            FieldSource::Slot(slot) => entry.fields.get(slot).map_or("", |value| value),
            FieldSource::Absent => "",
        };
        (value == &*self.value) == self.equals
    }
}

/// Empty strings mean "any".
#[derive(Debug, Clone)]
pub struct Selection {
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// The resource has no namespaces.
    pub cluster_scoped: bool,
    pub labels: Selector,
    pub fields: Vec<FieldTerm>,
}

impl Selection {
    /// Everything of a resource.
    pub fn all() -> Self {
        Self {
            namespace: Box::default(),
            name: Box::default(),
            cluster_scoped: false,
            labels: Selector::everything(),
            fields: Vec::new(),
        }
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || entry.namespace() == &*self.namespace)
            && (self.name.is_empty() || entry.name() == &*self.name)
            && self.fields.iter().all(|term| term.matches(entry))
            && self.labels.matches(&*entry.labels)
    }

    /// Whether it looks at more than namespace and name: then the number of matches is not known without looking.
    pub fn has_selectors(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_empty()
    }
}
