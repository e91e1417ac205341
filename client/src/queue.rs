//! The work queue: what has to be looked at, each thing once, and when.
//!
//! Guarantees: a key added many times before it is worked on is worked on once; a key added while it is being
//! worked on is worked on again afterwards; no key is worked on twice at the same time. Keys come out in the
//! order they went in. Capacity: one entry per distinct key, so the queue never outgrows the objects it is
//! about; it does not refuse keys.

mod limiter;
mod metrics;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

pub(crate) use self::limiter::Bucket;
use self::metrics::Metrics;

/// How failing keys are slowed down. The default is upstream's for controllers.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// Pause after the first failure of a key; doubles with each further one.
    pub base_delay: Duration,
    pub max_delay: Duration,
    /// Retries per second of all keys together, after `burst` of them.
    pub qps: f64,
    pub burst: u32,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            base_delay: Duration::from_millis(5),
            max_delay: Duration::from_secs(1000),
            qps: 10.0,
            burst: 100,
        }
    }
}

pub struct WorkQueue<T> {
    config: QueueConfig,
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    /// Keys to hand out, in order; each is in `dirty` too.
    ready: VecDeque<T>,
    /// Keys that need work, handed out or not, and since when.
    dirty: HashMap<T, Instant>,
    /// Keys that are being worked on, and since when.
    processing: HashMap<T, Instant>,
    /// Keys that become ready later; `due` holds the earliest time of each, later heap entries are void.
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_keys: HashMap<u64, T>,
    due: HashMap<T, (Instant, u64)>,
    next_id: u64,
    failures: HashMap<T, u32>,
    bucket: Bucket,
    metrics: Option<Metrics>,
    stopping: bool,
}

impl<T: Clone + Eq + Hash> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new(QueueConfig::default())
    }
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    pub fn new(config: QueueConfig) -> Self {
        Self::build(config, None)
    }

    /// A queue that is measured under this name; queues of one name are measured together.
    pub fn named(name: &'static str, config: QueueConfig) -> Self {
        Self::build(config, Some(Metrics::of(name)))
    }

    fn build(config: QueueConfig, metrics: Option<Metrics>) -> Self {
        Self {
            config,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashMap::new(),
                processing: HashMap::new(),
                delayed: BinaryHeap::new(),
                delayed_keys: HashMap::new(),
                due: HashMap::new(),
                next_id: 0,
                failures: HashMap::new(),
                bucket: Bucket::new(config.qps, config.burst),
                metrics,
                stopping: false,
            }),
            changed: Notify::new(),
        }
    }

    /// Marks a key as needing work now.
    pub fn add(&self, key: T) {
        if self.state.lock().add(key) {
            self.changed.notify_one();
        }
    }

    /// Marks a key as needing work after `delay`; of several delays the shortest counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        if self.state.lock().add_at(key, Instant::now() + delay) {
            self.changed.notify_one();
        }
    }

    /// Adds a key that failed, after a pause that grows with its failures.
    pub fn add_rate_limited(&self, key: T) {
        let delay = self.state.lock().retry_delay(&key, &self.config, Instant::now());
        self.add_after(key, delay);
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// How often the key has failed since it was last forgotten.
    pub fn failures(&self, key: &T) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key to work on, which must be given back by [`Self::done`]; `None` once the queue is shut down.
    pub async fn next(&self) -> Option<T> {
        loop {
            let changed = self.changed.notified();
            let due = {
                let mut state = self.state.lock();
                if state.stopping {
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.peek().map(|Reverse((due, _))| *due)
            };
            match due {
                None => changed.await,
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(due) => {}
                },
            }
        }
    }

    /// Ends the work on a key.
    pub fn done(&self, key: &T) {
        if self.state.lock().done(key) {
            self.changed.notify_one();
        }
    }

    /// Keys waiting to be handed out, without the delayed ones.
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// From now on `next` gives nothing and additions are ignored.
    pub fn shut_down(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

impl<T: Clone + Eq + Hash> State<T> {
    /// Whether a key became ready.
    fn add(&mut self, key: T) -> bool {
        if self.stopping || self.dirty.contains_key(&key) {
            return false;
        }
        self.dirty.insert(key.clone(), Instant::now());
        if let Some(metrics) = &self.metrics {
            metrics.added();
        }
        if self.processing.contains_key(&key) {
            return false;
        }
        self.push(key);
        true
    }

    fn push(&mut self, key: T) {
        self.ready.push_back(key);
        if let Some(metrics) = &self.metrics {
            metrics.depth(1);
        }
    }

    /// Whether the time at which the queue must next be looked at may have changed.
    fn add_at(&mut self, key: T, at: Instant) -> bool {
        if self.stopping || self.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return false;
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Some((_, superseded)) = self.due.insert(key.clone(), (at, id)) {
            self.delayed_keys.remove(&superseded);
        }
        self.delayed_keys.insert(id, key);
        self.delayed.push(Reverse((at, id)));
        true
    }

    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((due, id))) = self.delayed.peek().copied() {
            if due > now && self.delayed_keys.contains_key(&id) {
                return;
            }
            self.delayed.pop();
            if let Some(key) = self.delayed_keys.remove(&id) {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    fn take(&mut self) -> Option<T> {
        let key = self.ready.pop_front()?;
        let now = Instant::now();
        let since = self.dirty.remove(&key);
        if let Some(metrics) = &self.metrics {
            metrics.depth(-1);
            metrics.waited(since.map_or(Duration::ZERO, |since| now - since));
        }
        self.processing.insert(key.clone(), now);
        Some(key)
    }

    /// Whether the key became ready again because it was added meanwhile.
    fn done(&mut self, key: &T) -> bool {
        let since = self.processing.remove(key);
        if let (Some(metrics), Some(since)) = (&self.metrics, since) {
            metrics.worked(since.elapsed());
        }
        if self.stopping || !self.dirty.contains_key(key) {
            return false;
        }
        self.push(key.clone());
        true
    }

    fn retry_delay(&mut self, key: &T, config: &QueueConfig, now: Instant) -> Duration {
        if let Some(metrics) = &self.metrics {
            metrics.retried();
        }
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let own = config.base_delay.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX));
        *failures = failures.saturating_add(1);
        own.min(config.max_delay).max(self.bucket.reserve(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_key_is_worked_on_once_however_often_it_was_added() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert!(queue.is_empty(), "a is being worked on and must not be handed out again");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_delays_the_shortest_counts_and_the_key_comes_once() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(30));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        queue.done(&"a");
        queue.add_after("b", Duration::from_secs(100));
        assert_eq!(queue.next().await, Some("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_delay_wakes_a_worker_that_waits_for_a_later_one() {
        let queue = Arc::new(WorkQueue::default());
        queue.add_after("late", Duration::from_secs(60));
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        let start = Instant::now();
        queue.add_after("soon", Duration::from_secs(1));
        assert_eq!(waiting.await.unwrap(), Some("soon"));
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off_as_upstream() {
        let queue = WorkQueue::default();
        for expected in [5, 10, 20, 40] {
            let start = Instant::now();
            queue.add_rate_limited("a");
            assert_eq!(queue.next().await, Some("a"));
            assert_eq!(start.elapsed(), Duration::from_millis(expected));
            queue.done(&"a");
        }
        assert_eq!(queue.failures(&"a"), 4);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn shutting_down_releases_all_workers() {
        let queue = Arc::new(WorkQueue::<&str>::default());
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.shut_down();
        queue.add("late");
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
    }
}
