//! One change to one object, on its way to the watchers that want it.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

use super::entry::Entry;
use crate::stored::Stored;

/// The `type` of a watch event about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// A committed write. Every form a watcher may get is encoded at most once and shared.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    /// The object after the write, `None` when it was deleted.
    pub current: Option<Arc<Entry>>,
    /// The object before the write, `None` when it was created.
    pub previous: Option<Arc<Entry>>,
    encoded: [OnceLock<Bytes>; 3],
}

impl Event {
    pub fn new(revision: u64, current: Option<Arc<Entry>>, previous: Option<Arc<Entry>>) -> Self {
        Self { revision, current, previous, encoded: Default::default() }
    }

    /// The object that the change is about, in either state.
    pub fn subject(&self) -> Option<&Arc<Entry>> {
        self.current.as_ref().or(self.previous.as_ref())
    }

    /// What the change is to a watcher that sees only what `wanted` accepts; `None` when it is nothing.
    pub fn seen_through(&self, wanted: impl Fn(&Entry) -> bool) -> Option<EventType> {
        let after = self.current.as_deref().is_some_and(&wanted);
        let before = self.previous.as_deref().is_some_and(&wanted);
        match (before, after) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    /// The object as an event of this type shows it: the last state for a deletion, at this event's revision.
    pub fn object(&self, kind: EventType) -> Option<Stored> {
        let entry = match kind {
            EventType::Deleted => self.previous.as_ref().or(self.current.as_ref()),
            EventType::Added | EventType::Modified => self.current.as_ref(),
        };
        entry.map(|entry| entry.stored.at(self.revision))
    }

    /// The event as JSON in the stored version, with a newline behind it.
    pub fn json(&self, kind: EventType) -> Bytes {
        let encode =
            || self.object(kind).map(|object| encode_event(kind.as_str(), &object)).unwrap_or_default();
        self.encoded[kind as usize].get_or_init(encode).clone()
    }
}

/// `{"type":"ADDED","object":{...}}` and a newline.
pub fn encode_event(kind: &str, object: &Stored) -> Bytes {
    let mut out = BytesMut::with_capacity(object.size() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.write(&mut out);
    out.extend_from_slice(b"}");
    out.put_u8(b'\n');
    out.freeze()
}
