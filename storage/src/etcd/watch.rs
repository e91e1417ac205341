//! Watches: each a task that follows etcd's stream, and begins it again where it broke.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Event as EtcdEvent, EventType, KeyValue as EtcdKeyValue, WatchOptions, WatchResponse};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::connection::{Connection, revision_of, wire};
use super::signed;
use crate::store::{Change, Error, Event, EventKind, KeyValue, Result, Revision};
use crate::watch::PROGRESS_INTERVAL;

/// How many events wait for their reader; then etcd is not read on.
pub const QUEUE: usize = 1024;
/// Waits before a broken watch is begun again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The end of a key that is written where etcd cannot be asked how far a watch is: what is written before it has been
/// seen when it is.
const MARKER: &str = ".progress";

/// Who can be asked how far they are, by prefix.
#[derive(Default)]
pub struct Watches(Mutex<Vec<(Box<str>, mpsc::Sender<()>)>>);

impl Watches {
    /// What a new watch is asked through; `now` asks at once.
    pub fn add(&self, prefix: &str, now: bool) -> mpsc::Receiver<()> {
        let (ask, asked) = mpsc::channel(1);
        if now {
            // The queue is new and has room.
            let _sent = ask.try_send(());
        }
        let mut watches = self.0.lock();
        watches.retain(|(_, ask)| !ask.is_closed());
        watches.push((prefix.into(), ask));
        asked
    }

    pub fn ask(&self, prefix: &str) {
        for (_, ask) in self.0.lock().iter().filter(|(of, _)| **of == *prefix) {
            // One question that waits stands for all.
            let _full = ask.try_send(());
        }
    }
}

pub struct Watch {
    connection: Arc<Connection>,
    prefix: String,
    /// Everything up to this revision has been delivered.
    delivered: Revision,
    events: mpsc::Sender<Result<Event>>,
    asked: mpsc::Receiver<()>,
}

/// Why etcd's stream is not followed any more.
enum End {
    /// Nobody reads.
    Unread,
    /// It can never be begun again.
    Failed(Error),
    /// It can be begun again.
    Broken(String),
}

impl From<etcd_client::Error> for End {
    fn from(error: etcd_client::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Watch {
    pub fn new(
        connection: Arc<Connection>,
        prefix: &str,
        after: Revision,
        events: mpsc::Sender<Result<Event>>,
        asked: mpsc::Receiver<()>,
    ) -> Self {
        Self { connection, prefix: prefix.to_owned(), delivered: after, events, asked }
    }

    pub async fn run(mut self) {
        let connection = self.connection.clone();
        tokio::select! {
            () = connection.closed() => {}
            () = self.go_on() => {}
        }
    }

    async fn go_on(&mut self) {
        let (shortest, longest) = PAUSES;
        let mut pause = shortest;
        loop {
            let before = self.delivered;
            match self.follow().await {
                End::Unread => return,
                End::Failed(error) => {
                    // Whoever does not read any more misses nothing.
                    let _unread = self.events.send(Err(error)).await;
                    return;
                }
                End::Broken(why) => {
                    tracing::warn!(prefix = self.prefix, why, "a watch on etcd broke: beginning it again");
                    self.connection.turn();
                }
            }
            pause = if self.delivered > before { shortest } else { (pause * 2).min(longest) };
            tokio::time::sleep(pause).await;
        }
    }

    async fn follow(&mut self) -> End {
        let Err(end) = self.try_follow().await;
        end
    }

    async fn try_follow(&mut self) -> Result<std::convert::Infallible, End> {
        let key = self.connection.outer(&self.prefix);
        let options = WatchOptions::new().with_prev_key().with_start_revision(signed(self.delivered) + 1);
        let options = if key.is_empty() { options.with_all_keys() } else { options.with_prefix() };
        let mut stream = self.connection.endpoint().watch.clone().watch(key, Some(options)).await?;
        let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval.reset();
        loop {
            tokio::select! {
                message = stream.message() => {
                    let message = message?.ok_or_else(|| End::Broken("etcd ended it".to_owned()))?;
                    self.take(&message).await?;
                    continue;
                }
                () = self.events.closed() => return Err(End::Unread),
                Some(()) = self.asked.recv() => {}
                _ = interval.tick() => {}
            }
            if self.connection.tells_progress {
                stream.request_progress().await?;
            } else {
                self.mark().await?;
            }
        }
    }

    /// Delivers what one message of etcd holds.
    async fn take(&mut self, message: &WatchResponse) -> Result<(), End> {
        if message.compact_revision() > 0 {
            let (requested, oldest) = (self.delivered, wire(message.compact_revision()));
            return Err(End::Failed(Error::Compacted { requested, oldest }));
        }
        if message.canceled() {
            return Err(End::Broken(message.cancel_reason().to_owned()));
        }
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let revision = wire(kv.mod_revision());
            let event = match self.event(event, kv) {
                Ok(event) => event,
                Err(error) => return Err(End::Failed(error)),
            };
            self.events.send(Ok(event)).await.map_err(|_| End::Unread)?;
            self.delivered = self.delivered.max(revision);
        }
        if message.events().is_empty() && !message.created() {
            let revision = revision_of(message.header()).map_err(End::Failed)?;
            self.tell(revision).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, revision: Revision) -> Result<(), End> {
        if revision < self.delivered {
            return Ok(());
        }
        self.delivered = revision;
        self.events.send(Ok(Event::Progress(revision))).await.map_err(|_| End::Unread)
    }

    fn event(&self, event: &EtcdEvent, kv: &EtcdKeyValue) -> Result<Event> {
        let key = self.connection.inner(kv.key())?;
        let revision = wire(kv.mod_revision());
        if key.ends_with(MARKER) {
            return Ok(Event::Progress(revision));
        }
        let previous = event.prev_kv().map(|before| KeyValue {
            key: key.clone(),
            value: Bytes::copy_from_slice(before.value()),
            create_revision: wire(before.create_revision()),
            mod_revision: wire(before.mod_revision()),
        });
        let kind = match event.event_type() {
            EventType::Delete => EventKind::Deleted,
            EventType::Put if kv.create_revision() == kv.mod_revision() => EventKind::Created,
            EventType::Put => EventKind::Modified,
        };
        let (value, create_revision) = match (kind, &previous) {
            (EventKind::Deleted, Some(before)) => (before.value.clone(), before.create_revision),
            _ => (Bytes::copy_from_slice(kv.value()), wire(kv.create_revision())),
        };
        let current = KeyValue { key, value, create_revision, mod_revision: revision };
        Ok(Event::Change(Change { kind, current, previous }))
    }

    /// Writes a marker if there is anything that this watch may not have seen yet.
    async fn mark(&mut self) -> Result<(), End> {
        let key = format!("{}{MARKER}", self.connection.outer(&self.prefix));
        let endpoint = self.connection.endpoint();
        let found = endpoint.kv.clone().get(key.as_str(), None).await?;
        let now = revision_of(found.header()).map_err(End::Failed)?;
        if now <= self.delivered {
            return self.tell(self.delivered).await;
        }
        endpoint.kv.clone().put(key, Vec::new(), None).await?;
        Ok(())
    }
}
