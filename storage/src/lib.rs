//! Keys, bytes, revisions and watches: etcd's contract, small, behind one trait.
//!
//! The store has never heard of a Pod. Keys are as Kubernetes lays them out (`/registry/pods/default/web`),
//! values are opaque bytes. One global revision grows by one with every committed write.

mod store;

pub use store::{
    Change, Durability, Error, Event, EventKind, Expect, KeyValue, Outcome, Range, RangeResult, Result,
    Revision, Store, WatchStream,
};
