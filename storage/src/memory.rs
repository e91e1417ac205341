//! The store in memory only: for tests, for virtual time, and for clusters that need not outlive their process.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::shared::Shared;
use crate::state::{State, Write};
use crate::store::{
    Durability, Expect, KeyValue, Outcome, Range, RangeResult, Result, Revision, Store, WatchStream,
};

/// Nothing here waits or spawns a thread, so tests on paused time are deterministic.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Shared>);

impl Memory {
    pub fn new() -> Self {
        Self(Shared::new(State::default()))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision)> {
        self.0.get(key)
    }

    async fn range(&self, range: Range) -> Result<RangeResult> {
        self.0.range(&range)
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, _: Durability) -> Result<Outcome> {
        self.0.write(&Write { key: key.into(), value: Some(value), expect })
    }

    async fn delete(&self, key: &str, expect: Expect, _: Durability) -> Result<Outcome> {
        self.0.write(&Write { key: key.into(), value: None, expect })
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream> {
        self.0.watch(prefix, after)
    }

    async fn request_progress(&self, prefix: &str) -> Result<()> {
        self.0.request_progress(prefix);
        Ok(())
    }

    async fn revision(&self) -> Result<Revision> {
        self.0.revision()
    }

    async fn compact(&self, below: Revision) -> Result<()> {
        self.0.compact(below);
        Ok(())
    }

    async fn size(&self) -> Result<u64> {
        self.0.bytes()
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}
