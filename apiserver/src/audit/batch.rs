//! Events to a backend that is far away: many in one piece, not too often, and again when it does not take them.
//! Requests do not wait for it; when it cannot keep up events are lost, and the log says so.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use knarr_api::time::SharedRandom;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::Sink;

/// Attempts to deliver a batch, and by how much the pauses between them grow, as upstream's.
const ATTEMPTS: u32 = 5;
const GROWTH: f64 = 1.5;
const JITTER: f64 = 0.2;
/// Batches on their way at once. Upstream knows no limit; without one a dead backend costs memory without end.
const IN_FLIGHT: usize = 32;

/// How long a server that stops waits for the last events to be taken.
const FLUSHES_WITHIN: Duration = Duration::from_secs(10);

/// How events are put together, under upstream's names (`--audit-webhook-batch-...`).
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Events that may wait.
    pub buffer_size: usize,
    /// Events of a batch at most.
    pub max_size: usize,
    /// How long the first event of a batch waits for others.
    pub max_wait: Duration,
    /// Batches per second on average, and at once; `None`: as many as there are.
    pub throttle: Option<Throttle>,
    /// The first pause after a batch was not taken.
    pub initial_backoff: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Throttle {
    pub qps: f64,
    pub burst: u32,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            buffer_size: 10_000,
            max_size: 400,
            max_wait: Duration::from_secs(30),
            throttle: Some(Throttle { qps: 10.0, burst: 15 }),
            initial_backoff: Duration::from_secs(10),
        }
    }
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Undelivered {
    pub message: String,
    /// It may be taken another time.
    pub again: bool,
}

/// Takes batches.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// `list` is an `EventList` of `audit.k8s.io/v1`, as JSON.
    async fn deliver(&self, list: Bytes) -> Result<(), Undelivered>;
}

enum Message {
    Event(Bytes),
    /// Answered when all before has been delivered or given up.
    Flush(SyncSender<()>),
}

/// The near side of the backend.
pub struct Batches {
    queue: Sender<Message>,
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").finish_non_exhaustive()
    }
}

impl Batches {
    /// Starts to deliver to the backend, on the runtime that this is called in.
    pub fn start(options: BatchOptions, backend: Arc<dyn Backend>, random: SharedRandom) -> Self {
        let (queue, events) = channel(options.buffer_size.max(1));
        let tokens = options.throttle.map_or(0.0, |throttle| f64::from(throttle.burst));
        let sending = Sending { options, backend, random, events, tokens, counted: Instant::now() };
        tokio::spawn(sending.run());
        Self { queue }
    }
}

impl Sink for Batches {
    fn write(&self, event: &[u8]) {
        let why = match self.queue.try_send(Message::Event(Bytes::copy_from_slice(event))) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "the queue of the audit webhook is full",
            Err(TrySendError::Closed(_)) => "the audit webhook's sender has ended",
        };
        tracing::error!(why, "an audit event is lost");
    }

    fn flush(&self) {
        let (done, waiting) = sync_channel(1);
        // A full queue is on its way already, and whoever stops does not wait for a backend that is not there.
        let asked = self.queue.try_send(Message::Flush(done)).is_ok();
        if asked && waiting.recv_timeout(FLUSHES_WITHIN).is_err() {
            tracing::error!("the audit webhook did not take the last events in time");
        }
    }
}

struct Sending {
    options: BatchOptions,
    backend: Arc<dyn Backend>,
    random: SharedRandom,
    events: Receiver<Message>,
    /// Batches that may go at once.
    tokens: f64,
    counted: Instant,
}

/// A batch, and who waits for it.
#[derive(Default)]
struct Batch {
    events: Vec<Bytes>,
    waiting: Option<SyncSender<()>>,
}

impl Sending {
    async fn run(mut self) {
        let mut deliveries = JoinSet::new();
        while let Some(batch) = self.collect().await {
            if !batch.events.is_empty() {
                self.throttle().await;
                while deliveries.len() >= IN_FLIGHT {
                    deliveries.join_next().await;
                }
                deliveries.spawn(deliver(
                    list(&batch.events),
                    self.backend.clone(),
                    self.options,
                    self.random.clone(),
                ));
            }
            while deliveries.try_join_next().is_some() {}
            if let Some(waiting) = batch.waiting {
                while deliveries.join_next().await.is_some() {}
                // Who asked may have gone.
                let _gone = waiting.send(());
            }
        }
        while deliveries.join_next().await.is_some() {}
    }

    /// The next events, as many as belong together; `None` when there will be none.
    async fn collect(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        match self.events.recv().await? {
            Message::Event(event) => batch.events.push(event),
            Message::Flush(waiting) => return Some(Batch { waiting: Some(waiting), ..batch }),
        }
        let until = Instant::now() + self.options.max_wait;
        while batch.events.len() < self.options.max_size {
            match timeout_at(until, self.events.recv()).await {
                Ok(Some(Message::Event(event))) => batch.events.push(event),
                Ok(Some(Message::Flush(waiting))) => {
                    batch.waiting = Some(waiting);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    /// Waits until one more batch may go.
    async fn throttle(&mut self) {
        let Some(Throttle { qps, burst }) = self.options.throttle else { return };
        let earned = self.counted.elapsed().as_secs_f64() * qps;
        self.tokens = (self.tokens + earned).min(f64::from(burst));
        self.counted = Instant::now();
        if self.tokens < 1.0 {
            let enough = self.counted + Duration::from_secs_f64((1.0 - self.tokens) / qps);
            sleep_until(enough).await;
            (self.tokens, self.counted) = (1.0, enough);
        }
        self.tokens -= 1.0;
    }
}

/// An `EventList` of events that are JSON already.
fn list(events: &[Bytes]) -> Bytes {
    const HEAD: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let mut list =
        BytesMut::with_capacity(HEAD.len() + 2 + events.iter().map(|event| event.len() + 1).sum::<usize>());
    list.extend_from_slice(HEAD);
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            list.put_u8(b',');
        }
        list.extend_from_slice(event);
    }
    list.extend_from_slice(b"]}");
    list.freeze()
}

async fn deliver(list: Bytes, backend: Arc<dyn Backend>, options: BatchOptions, random: SharedRandom) {
    let mut pause = options.initial_backoff;
    for attempt in 1..=ATTEMPTS {
        let Err(error) = backend.deliver(list.clone()).await else { return };
        if attempt == ATTEMPTS || !error.again {
            tracing::error!(%error, attempt, "a batch of audit events is lost");
            return;
        }
        sleep(pause.mul_f64(1.0 + JITTER * random.unit())).await;
        pause = pause.mul_f64(GROWTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_api::time::SeededRandom;
    use parking_lot::Mutex;
    use serde_json::Value;

    /// Refuses as often as it is told, and keeps what it takes with the time of its coming.
    struct Kept {
        began: Instant,
        refuse: Mutex<Vec<bool>>,
        taken: Mutex<Vec<(Duration, usize)>>,
    }

    #[async_trait]
    impl Backend for Kept {
        async fn deliver(&self, list: Bytes) -> Result<(), Undelivered> {
            if let Some(again) = self.refuse.lock().pop() {
                return Err(Undelivered { message: "no".to_owned(), again });
            }
            let list: Value = serde_json::from_slice(&list).expect("JSON");
            assert_eq!(
                (&list["kind"], &list["apiVersion"]),
                (&"EventList".into(), &"audit.k8s.io/v1".into())
            );
            let count = list["items"].as_array().expect("items").len();
            self.taken.lock().push((self.began.elapsed(), count));
            Ok(())
        }
    }

    fn started(options: BatchOptions, refuse: &[bool]) -> (Batches, Arc<Kept>) {
        let (refuse, taken) = (Mutex::new(refuse.to_vec()), Mutex::default());
        let kept = Arc::new(Kept { began: Instant::now(), refuse, taken });
        (Batches::start(options, kept.clone(), Arc::new(SeededRandom::new(1))), kept)
    }

    fn whole_seconds(kept: &Kept) -> Vec<(u64, usize)> {
        kept.taken.lock().iter().map(|(after, count)| (after.as_secs(), *count)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_goes_when_it_is_full_or_has_waited_long_enough() {
        let (batches, kept) = started(BatchOptions { max_size: 3, ..BatchOptions::default() }, &[]);
        for _ in 0..4 {
            batches.write(b"{}");
        }
        sleep(Duration::from_secs(40)).await;
        assert_eq!(whole_seconds(&kept), [(0, 3), (30, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn more_batches_than_allowed_wait_their_turn() {
        let throttle = Some(Throttle { qps: 0.5, burst: 2 });
        let (batches, kept) = started(BatchOptions { max_size: 1, throttle, ..BatchOptions::default() }, &[]);
        for _ in 0..4 {
            batches.write(b"{}");
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!(whole_seconds(&kept), [(0, 1), (0, 1), (2, 1), (4, 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_sent_again_unless_that_is_no_use() {
        let options = BatchOptions { max_size: 1, ..BatchOptions::default() };
        let (batches, kept) = started(options, &[true, true]);
        batches.write(b"{}");
        sleep(Duration::from_secs(120)).await;
        let taken = whole_seconds(&kept);
        // 10 s and 15 s, and up to a fifth more.
        assert!(matches!(taken[..], [(25..=30, 1)]), "{taken:?}");
        let (batches, kept) = started(options, &[false]);
        batches.write(b"{}");
        batches.write(b"{}");
        sleep(Duration::from_secs(120)).await;
        assert_eq!(whole_seconds(&kept).len(), 1, "the refused one is lost");
        let (batches, kept) = started(options, &[true; 5]);
        batches.write(b"{}");
        sleep(Duration::from_secs(600)).await;
        assert_eq!(whole_seconds(&kept), [], "after five attempts it is given up");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_flush_waits_for_what_was_written_before() {
        let (batches, kept) = started(BatchOptions::default(), &[]);
        batches.write(b"{}");
        tokio::task::spawn_blocking(move || batches.flush()).await.expect("flushes");
        assert_eq!(kept.taken.lock().len(), 1);
    }
}
