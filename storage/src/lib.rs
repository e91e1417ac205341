//! Keys, bytes, revisions and watches: etcd's contract, small, behind one trait.
//!
//! The store has never heard of a Pod. Keys are as Kubernetes lays them out (`/registry/pods/default/web`),
//! values are opaque bytes. One global revision grows by one with every committed write.
//!
//! [`Memory`] and [`Embedded`] keep the same multi-version map ([`state`]) and watchers ([`watch`]); the embedded
//! engine puts a journal under it that is on disk before a write is acknowledged. [`Etcd`] asks etcd, which several
//! processes may do.

mod compactor;
mod embedded;
mod etcd;
mod memory;
mod migrate;
mod shared;
mod state;
mod store;
mod watch;

pub use compactor::compact_periodically;
pub use embedded::{Embedded, Options, SnapshotInfo, inspect_snapshot, restore_snapshot};
pub use etcd::{Etcd, EtcdOptions};
pub use memory::Memory;
pub use migrate::{Copied, MigrateError, copy, save};
pub use store::{
    Change, Durability, Error, Event, EventKind, Expect, KeyValue, Outcome, Range, RangeResult, Result,
    Revision, Store, WatchStream,
};
