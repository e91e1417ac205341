//! The running components: started in order, stopped in reverse, each given time to finish.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A component that does not stop by itself in this time is cut off.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Tasks {
    running: Vec<Task>,
    ended: (mpsc::UnboundedSender<anyhow::Error>, mpsc::UnboundedReceiver<anyhow::Error>),
}

struct Task {
    name: &'static str,
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Vec::new(), ended: mpsc::unbounded_channel() }
    }
}

impl Tasks {
    /// Starts a component that runs until the token it is given is cancelled. Ending before that is a failure.
    pub fn spawn<F>(&mut self, name: &'static str, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (work, watched, failed) = (tokio::spawn(run(stop.clone())), stop.clone(), self.ended.0.clone());
        let handle = tokio::spawn(async move {
            let error = match work.await {
                Ok(Ok(())) if watched.is_cancelled() => return,
                Ok(Ok(())) => anyhow::anyhow!("{name} ended by itself"),
                Ok(Err(error)) => error.context(name),
                Err(panic) => anyhow::anyhow!("{name}: {panic}"),
            };
            tracing::error!(component = name, error = format!("{error:#}"), "component failed");
            // Nobody listens any more when everything is being stopped.
            let _stopping = failed.send(error);
        });
        self.running.push(Task { name, stop, handle });
    }

    /// Waits for the first component that fails.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.ended.1.recv().await {
            Some(error) => error,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    /// Stops the components, the last one first.
    pub async fn stop(self) {
        for Task { name, stop, mut handle } in self.running.into_iter().rev() {
            stop.cancel();
            if tokio::time::timeout(PATIENCE, &mut handle).await.is_err() {
                tracing::warn!(component = name, "does not stop: cut off");
                handle.abort();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn components_stop_in_reverse_order() {
        let order: Arc<Mutex<Vec<&str>>> = Arc::default();
        let mut tasks = Tasks::default();
        for name in ["first", "second", "third"] {
            let order = order.clone();
            tasks.spawn(name, |stop| async move {
                stop.cancelled().await;
                order.lock().push(name);
                Ok(())
            });
        }
        tasks.stop().await;
        assert_eq!(*order.lock(), ["third", "second", "first"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_component_that_ends_or_panics_is_reported_by_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("short", |_| async { Ok(()) });
        assert_eq!(tasks.failed().await.to_string(), "short ended by itself");
        tasks.spawn("broken", |_| async { panic!("oh") });
        assert!(tasks.failed().await.to_string().starts_with("broken: task"));
    }
}
