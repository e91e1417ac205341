//! How large values can become, as far as a schema says: what cost estimates are made of.

use std::collections::BTreeMap;

/// The largest size of a value and of what is in it.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// Characters, bytes, items or entries.
    pub max: u64,
    /// Of the items of a list, or the values of a map.
    pub items: Option<Box<Sizes>>,
    /// Of the keys of a map.
    pub keys: Option<Box<Sizes>>,
    /// By the names expressions use.
    pub fields: BTreeMap<String, Sizes>,
}

impl Sizes {
    /// The sizes at the end of a path of fields, `@items`, `@keys` and `@values`.
    pub(super) fn at(&self, path: &[String]) -> Option<&Sizes> {
        path.iter().try_fold(self, |at, step| match step.as_str() {
            "@items" | "@values" => at.items.as_deref(),
            "@keys" => at.keys.as_deref(),
            name => at.fields.get(name),
        })
    }
}
