//! Steps that the tests of stores are made of.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use knarr_storage::{
    Durability::Durable, Event, EventKind, Expect, KeyValue, Outcome, Revision, Store, WatchStream,
};

pub async fn put(store: &dyn Store, key: &str, value: &'static str, expect: Expect) -> KeyValue {
    match store.put(key, Bytes::from_static(value.as_bytes()), expect, Durable).await.expect("put") {
        Outcome::Committed(now) => now,
        Outcome::Conflict(present) => panic!("unexpected conflict on {key}: {present:?}"),
    }
}

pub async fn delete(store: &dyn Store, key: &str, at: Revision) -> KeyValue {
    match store.delete(key, Expect::At(at), Durable).await.expect("delete") {
        Outcome::Committed(gone) => gone,
        Outcome::Conflict(present) => panic!("unexpected conflict on {key}: {present:?}"),
    }
}

/// The next change, past any progress notes.
pub async fn next_change(stream: &mut WatchStream) -> (EventKind, String, Revision) {
    loop {
        let next =
            tokio::time::timeout(Duration::from_secs(30), stream.next()).await.expect("an event in time");
        if let Event::Change(change) = next.expect("the watch goes on").expect("no error") {
            return (change.kind, change.current.key.to_string(), change.current.mod_revision);
        }
    }
}
