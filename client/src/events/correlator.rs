//! Which events are sent as they are, counted, folded together or dropped. Pure but for the given time.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use tokio::time::Instant;

use crate::queue::Bucket;

/// Objects, messages and groups remembered of each; the oldest is forgotten beyond it.
const REMEMBERED: usize = 4096;
/// Different messages of one reason before they are folded into one event.
const SIMILAR: usize = 10;
/// A group that was quiet this long starts anew.
const QUIET: Duration = Duration::from_secs(600);
/// Events of one source about one object: this many at once, then one every five minutes.
const BURST: u32 = 25;
const PER_SECOND: f64 = 1.0 / 300.0;

/// What to do with an event.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Create(Box<Event>),
    /// The event carries the name, count and first time of the one seen before.
    Update(Box<Event>),
    Drop,
}

#[derive(Default)]
pub(super) struct Correlator {
    floods: Remembered<Bucket>,
    groups: Remembered<Group>,
    seen: Remembered<Seen>,
}

struct Group {
    messages: HashSet<String>,
    last: Timestamp,
}

#[derive(Clone)]
struct Seen {
    name: Option<String>,
    count: i32,
    first: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

/// A map that forgets its oldest entry when it is full.
struct Remembered<V> {
    entries: HashMap<String, V>,
    order: VecDeque<String>,
}

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Remembered<V> {
    fn entry(&mut self, key: String, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.order.len() >= REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_insert_with(make)
    }
}

impl Correlator {
    pub(super) fn judge(&mut self, mut event: Event, wall: Timestamp, now: Instant) -> Verdict {
        let key = self.aggregate(&mut event, wall);
        let seen = self.seen.entry(key, || Seen { name: None, count: 0, first: None });
        let repeated = seen.count > 0;
        if repeated {
            event.metadata.name = seen.name.clone();
            event.first_timestamp = seen.first.clone();
            event.count = Some(seen.count.saturating_add(1));
        }
        *seen = Seen {
            name: event.metadata.name.clone(),
            count: event.count.unwrap_or(1),
            first: event.first_timestamp.clone(),
        };
        let bucket = self.floods.entry(flood_key(&event), || Bucket::new(PER_SECOND, BURST));
        if !bucket.try_take(now) {
            return Verdict::Drop;
        }
        if repeated { Verdict::Update(Box::new(event)) } else { Verdict::Create(Box::new(event)) }
    }

    /// Folds the event into its group when the group has too many messages; gives the key it is counted under.
    fn aggregate(&mut self, event: &mut Event, wall: Timestamp) -> String {
        let group_key = group_key(event);
        let group = self.groups.entry(group_key.clone(), || Group { messages: HashSet::new(), last: wall });
        if wall.duration_since(group.last).unsigned_abs() > QUIET {
            group.messages.clear();
        }
        group.last = wall;
        let message = event.message.clone().unwrap_or_default();
        if group.messages.len() < SIMILAR {
            group.messages.insert(message);
        }
        if group.messages.len() < SIMILAR {
            return format!("{group_key}\0{}", event.message.as_deref().unwrap_or_default());
        }
        event.message =
            Some(format!("(combined from similar events): {}", event.message.as_deref().unwrap_or_default()));
        group_key
    }
}

fn object_key(object: &ObjectReference) -> [&str; 6] {
    [&object.kind, &object.namespace, &object.name, &object.uid, &object.api_version, &object.field_path]
        .map(|part| part.as_deref().unwrap_or_default())
}

fn source_key(event: &Event) -> [&str; 2] {
    let source = event.source.as_ref();
    [
        source.and_then(|source| source.component.as_deref()).unwrap_or_default(),
        source.and_then(|source| source.host.as_deref()).unwrap_or_default(),
    ]
}

fn flood_key(event: &Event) -> String {
    [&source_key(event)[..], &object_key(&event.involved_object)].concat().join("\0")
}

fn group_key(event: &Event) -> String {
    let kind = [event.type_.as_deref().unwrap_or_default(), event.reason.as_deref().unwrap_or_default()];
    [&source_key(event)[..], &object_key(&event.involved_object), &kind].concat().join("\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, reason: &str, message: &str) -> Event {
        Event {
            metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
            involved_object: ObjectReference { name: Some("pod".into()), ..Default::default() },
            reason: Some(reason.into()),
            message: Some(message.into()),
            count: Some(1),
            ..Event::default()
        }
    }

    fn judge(correlator: &mut Correlator, event: Event, second: i64) -> Verdict {
        correlator.judge(event, Timestamp::from_second(second).unwrap(), Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_counted_on_the_first_one() {
        let mut correlator = Correlator::default();
        assert!(matches!(judge(&mut correlator, event("a", "R", "m"), 0), Verdict::Create(_)));
        let Verdict::Update(second) = judge(&mut correlator, event("b", "R", "m"), 1) else {
            panic!("not counted")
        };
        assert_eq!((second.metadata.name.as_deref(), second.count), (Some("a"), Some(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn many_messages_of_one_reason_are_folded_into_one() {
        let mut correlator = Correlator::default();
        let folded = (0..12)
            .map(|i| judge(&mut correlator, event(&format!("e{i}"), "R", &format!("m{i}")), i))
            .skip(9)
            .collect::<Vec<_>>();
        let Verdict::Create(first) = &folded[0] else { panic!("the tenth is the first folded") };
        assert_eq!(first.message.as_deref(), Some("(combined from similar events): m9"));
        let Verdict::Update(third) = &folded[2] else { panic!("not counted") };
        assert_eq!((third.metadata.name.as_deref(), third.count), (Some("e9"), Some(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_off_and_trickles_on() {
        let mut correlator = Correlator::default();
        let sent = |correlator: &mut Correlator| {
            (0..100).filter(|_| judge(correlator, event("a", "R", "m"), 0) != Verdict::Drop).count()
        };
        assert_eq!(sent(&mut correlator), 25);
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_eq!(sent(&mut correlator), 1);
    }
}
