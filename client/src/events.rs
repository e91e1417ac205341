//! `core/v1` Events about objects, as `kubectl describe` shows them.
//!
//! Recording never waits and never fails: an event goes to a bounded channel and one task per process sends it.
//! Equal events are counted on one object, similar ones folded together, and floods cut off, with upstream's
//! numbers, so that a crash loop costs the store one object and not thousands.

mod correlator;
mod sink;

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use knarr_api::time::{SharedClock, SharedRandom};
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::object::object_reference;

/// Events waiting to be sent; more than these are dropped, with a log line.
const CAPACITY: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The process's way to report events; makes one [`EventRecorder`] per component.
#[derive(Clone)]
pub struct EventBroadcaster {
    sender: mpsc::Sender<Event>,
    clock: SharedClock,
    /// The last name given, in nanoseconds: two events of the same instant need two names.
    last_name: Arc<Mutex<i128>>,
}

impl EventBroadcaster {
    /// A broadcaster and the task that sends what is recorded; run it until `shutdown`.
    pub fn new(
        client: Client,
        clock: SharedClock,
        random: SharedRandom,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let sending = sink::run(client, Arc::clone(&clock), random, receiver, shutdown);
        (Self { sender, clock, last_name: Arc::new(Mutex::new(0)) }, sending)
    }

    /// A recorder that signs as `component`; node components also name their host.
    pub fn recorder(&self, component: &str, host: Option<&str>) -> EventRecorder {
        let source = EventSource { component: Some(component.to_owned()), host: host.map(str::to_owned) };
        EventRecorder { broadcaster: self.clone(), source }
    }

    fn unique_nanoseconds(&self) -> i128 {
        let mut last = self.last_name.lock();
        *last = self.clock.now().as_nanosecond().max(*last + 1);
        *last
    }
}

/// Records events of one component.
#[derive(Clone)]
pub struct EventRecorder {
    broadcaster: EventBroadcaster,
    source: EventSource,
}

impl EventRecorder {
    /// Records that something happened to `object`; `reason` is one CamelCase word, `message` a sentence.
    pub fn event<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.event_about(object_reference(object), kind, reason, message);
    }

    /// Records an event about something named by a reference, which may have a `fieldPath`.
    pub fn event_about(
        &self,
        involved: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let event = self.build(involved, kind, reason, message.into());
        if let Err(mpsc::error::TrySendError::Full(event)) = self.broadcaster.sender.try_send(event) {
            warn!(reason, name = event.metadata.name, "too many events are waiting, dropping one");
        }
    }

    fn build(&self, involved: ObjectReference, kind: EventType, reason: &str, message: String) -> Event {
        let now = Time(self.broadcaster.clock.now());
        let name = involved.name.as_deref().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(event_name(name, self.broadcaster.unique_nanoseconds())),
                namespace: Some(match involved.namespace.as_deref() {
                    None | Some("") => "default".to_owned(),
                    Some(namespace) => namespace.to_owned(),
                }),
                ..ObjectMeta::default()
            },
            involved_object: involved,
            type_: Some(kind.as_str().to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            source: Some(self.source.clone()),
            ..Event::default()
        }
    }
}

/// `object.time`, cut so that it stays a valid name.
fn event_name(object: &str, nanoseconds: i128) -> String {
    let suffix = format!(".{nanoseconds:x}");
    let mut end = object.len().min(253 - suffix.len());
    while !object.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", object[..end].trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_are_valid_however_long_the_object_is_named() {
        assert_eq!(event_name("web", 0x17f), "web.17f");
        let name = event_name(&format!("{}-{}", "a".repeat(247), "b".repeat(5)), 0x1234);
        assert_eq!(name, format!("{}.1234", "a".repeat(247)));
    }
}
