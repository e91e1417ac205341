//! One object as the cache holds it: its stored bytes, and the little that is asked of every object.

use std::sync::Arc;

use knarr_storage::KeyValue;

use super::extract::{Extracted, Extractor, Labels};
use crate::stored::{Corrupt, Stored};

#[derive(Debug)]
pub struct Entry {
    key: Arc<str>,
    /// Where the part that is the object's own begins in `key`.
    prefix: u32,
    pub stored: Stored,
    pub labels: Labels,
    /// Values of the selectable fields other than name and namespace, in the resource's order.
    pub fields: Box<[Box<str>]>,
}

impl Entry {
    /// `prefix` is the resource's, with its closing slash.
    pub fn new(kv: &KeyValue, prefix: &str, extractor: &Extractor) -> Result<Self, Corrupt> {
        let stored = Stored::new(kv.value.clone(), kv.mod_revision.0)?;
        let Extracted { labels, fields } =
            extractor.extract(stored.raw()).map_err(|error| Corrupt(error.to_string()))?;
        Ok(Self { key: kv.key.clone(), prefix: prefix.len() as u32, stored, labels, fields })
    }

    /// The key in the store.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// `namespace/name`, or `name` of a cluster-scoped object.
    pub fn path(&self) -> &str {
        &self.key[self.prefix as usize..]
    }

    pub fn name(&self) -> &str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.path().split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn revision(&self) -> u64 {
        self.stored.revision()
    }
}
