//! Workers that take keys from a queue and reconcile them.

use std::{fmt::Display, future::Future, hash::Hash, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info_span, warn};

use crate::queue::WorkQueue;

/// What is to happen with a key after a reconcile that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing until the next change.
    Done,
    /// Look again after this long, change or not.
    After(Duration),
    /// Look again soon, backing off: the state is not what it should be, but nobody failed.
    Retry,
}

/// The decisions of one controller.
///
/// `reconcile` looks at the world as it is now, compares, writes the difference and says when to come back. It
/// is never called for the same key twice at once, and it must be right when called for no reason at all. An
/// error is logged and the key retried with growing pauses.
pub trait Reconcile: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + Display + Send + Sync + 'static;
    type Error: Display + Send;

    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Action, Self::Error>> + Send;
}

/// Runs `workers` workers until `shutdown`; what is being reconciled then is finished first.
///
/// A reconcile that panics is reported and its key retried; the worker goes on.
pub async fn run<R: Reconcile>(
    name: &'static str,
    workers: usize,
    queue: Arc<WorkQueue<R::Key>>,
    reconciler: Arc<R>,
    shutdown: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconciler) = (Arc::clone(&queue), Arc::clone(&reconciler));
        tasks.spawn(work(queue, reconciler).instrument(info_span!("controller", name)));
    }
    shutdown.cancelled().await;
    queue.shut_down();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            error!(name, %error, "worker failed");
        }
    }
}

async fn work<R: Reconcile>(queue: Arc<WorkQueue<R::Key>>, reconciler: Arc<R>) {
    while let Some(key) = queue.next().await {
        let outcome = AssertUnwindSafe(reconciler.reconcile(&key)).catch_unwind().await;
        settle(&queue, &key, outcome);
        queue.done(&key);
    }
}

type Outcome<E> = Result<Result<Action, E>, Box<dyn std::any::Any + Send>>;

fn settle<T: Clone + Eq + Hash + Display, E: Display>(queue: &WorkQueue<T>, key: &T, outcome: Outcome<E>) {
    match outcome {
        Ok(Ok(Action::Done)) => queue.forget(key),
        Ok(Ok(Action::After(delay))) => {
            queue.forget(key);
            queue.add_after(key.clone(), delay);
        }
        Ok(Ok(Action::Retry)) => queue.add_rate_limited(key.clone()),
        Ok(Err(error)) => {
            // The first failures are most often a stale cache, which the retry finds current.
            if queue.failures(key) < 3 {
                debug!(%key, %error, "reconcile failed, retrying");
            } else {
                warn!(%key, %error, "reconcile keeps failing, retrying");
            }
            queue.add_rate_limited(key.clone());
        }
        Err(panic) => {
            error!(%key, panic = panic_text(&*panic), "reconcile panicked, retrying");
            queue.add_rate_limited(key.clone());
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::{sync::Notify, time::Instant};

    /// Panics, then fails, then asks to come back, then is content.
    #[derive(Default)]
    struct Troubled {
        calls: AtomicU32,
        content: Notify,
    }

    impl Reconcile for Troubled {
        type Key = &'static str;
        type Error = &'static str;

        async fn reconcile(&self, _key: &&'static str) -> Result<Action, &'static str> {
            match self.calls.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("first"),
                1 => Err("second"),
                2 => Ok(Action::After(Duration::from_secs(7))),
                _ => {
                    self.content.notify_one();
                    Ok(Action::Done)
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_survives_panics_and_errors() {
        let (queue, reconciler) = (Arc::new(WorkQueue::default()), Arc::new(Troubled::default()));
        let shutdown = CancellationToken::new();
        queue.add("key");
        let start = Instant::now();
        let running =
            tokio::spawn(run("troubled", 2, Arc::clone(&queue), Arc::clone(&reconciler), shutdown.clone()));
        reconciler.content.notified().await;
        assert_eq!(start.elapsed(), Duration::from_millis(5 + 10 + 7000));
        assert_eq!(queue.failures(&"key"), 0);
        shutdown.cancel();
        running.await.unwrap();
        assert_eq!(reconciler.calls.load(Ordering::SeqCst), 4);
    }
}
