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
    component: Component,
    handle: JoinHandle<()>,
}

/// A running component, for whoever has to stop it before the others.
#[derive(Clone)]
pub struct Component {
    name: &'static str,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Component {
    /// Asks it to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(PATIENCE, self.ended.cancelled()).await;
        ended.map_err(|_| anyhow::anyhow!("{} has not stopped after {} s", self.name, PATIENCE.as_secs()))
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Vec::new(), ended: mpsc::unbounded_channel() }
    }
}

impl Tasks {
    /// Starts a component that runs until the token it is given is cancelled. Ending before that is a failure.
    pub fn spawn<F>(&mut self, name: &'static str, run: impl FnOnce(CancellationToken) -> F) -> Component
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let (work, watched, failed) = (tokio::spawn(run(stop.clone())), stop.clone(), self.ended.0.clone());
        let component = Component { name, stop, ended: CancellationToken::new() };
        let ended = component.ended.clone().drop_guard();
        let handle = tokio::spawn(async move {
            let _ended = ended;
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
        self.running.push(Task { component: component.clone(), handle });
        component
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
        for Task { component: Component { name, stop, .. }, mut handle } in self.running.into_iter().rev() {
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
    async fn one_component_can_be_stopped_before_the_others_and_has_not_failed() {
        let mut tasks = Tasks::default();
        let stubborn = tasks.spawn("stubborn", |_| std::future::pending());
        let willing = tasks.spawn("willing", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        willing.stop();
        willing.ended().await.expect("ended");
        stubborn.stop();
        let error = stubborn.ended().await.expect_err("goes on");
        assert_eq!(error.to_string(), "stubborn has not stopped after 15 s");
        tasks.spawn("broken", |_| async { anyhow::bail!("oh") });
        assert_eq!(format!("{:#}", tasks.failed().await), "broken: oh");
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
