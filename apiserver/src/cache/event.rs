//! One change to one object, on its way to the watchers that want it.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt, Shared};
use knarr_api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

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

/// An object before and after a change, in a version that is served.
#[derive(Debug, Default)]
pub struct States {
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// A conversion on its way, or what came of it.
type Converted = Shared<BoxFuture<'static, Result<Arc<States>, Status>>>;

/// A committed write. Every form a watcher may get is encoded at most once and shared.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    /// The object after the write, `None` when it was deleted.
    pub current: Option<Arc<Entry>>,
    /// The object before the write, `None` when it was created.
    pub previous: Option<Arc<Entry>>,
    encoded: [OnceLock<Bytes>; 3],
    /// By the version converted to.
    converted: Mutex<Vec<(Box<str>, Converted)>>,
}

impl Event {
    pub fn new(revision: u64, current: Option<Arc<Entry>>, previous: Option<Arc<Entry>>) -> Self {
        Self { revision, current, previous, encoded: Default::default(), converted: Mutex::default() }
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

    /// The states in a version that costs much to convert to: those who ask while `convert` runs and after it has
    /// succeeded get the same. Who comes after a failure tries again.
    pub async fn states<F>(
        &self,
        version: &str,
        convert: impl FnOnce(Vec<Stored>) -> F,
    ) -> Result<Arc<States>, Status>
    where
        F: Future<Output = Result<Vec<Value>, Status>> + Send + 'static,
    {
        let converted = {
            let mut known = self.converted.lock();
            match known.iter().find(|(of, _)| &**of == version) {
                Some((_, converted)) => converted.clone(),
                None => {
                    let converted = self.convert(convert);
                    known.push((version.into(), converted.clone()));
                    converted
                }
            }
        };
        let outcome = converted.clone().await;
        if outcome.is_err() {
            self.converted.lock().retain(|(_, other)| !other.ptr_eq(&converted));
        }
        outcome
    }

    /// What is gone is shown as it was, at the revision of its going.
    fn convert<F>(&self, convert: impl FnOnce(Vec<Stored>) -> F) -> Converted
    where
        F: Future<Output = Result<Vec<Value>, Status>> + Send + 'static,
    {
        let there = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.stored.at(self.revision));
        let (before, after) = (there(&self.previous), there(&self.current));
        let (had, has) = (before.is_some(), after.is_some());
        let conversion = convert(before.into_iter().chain(after).collect());
        let states = async move {
            let mut values = conversion.await?.into_iter();
            let mut next = |there: bool| if there { values.next() } else { None };
            Ok(Arc::new(States { before: next(had), after: next(has) }))
        };
        states.boxed().shared()
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
