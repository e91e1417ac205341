//! The stream of hints that something changed.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::broadcast;

use crate::cri::ContainerEvent;

/// Events a slow listener may be behind; then its stream ends.
const CAPACITY: usize = 1024;

#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<ContainerEvent>,
}

impl Events {
    pub fn new() -> Self {
        Events { sender: broadcast::channel(CAPACITY).0 }
    }

    pub fn announce(&self, event: ContainerEvent) {
        // Nobody listening is fine.
        let _listeners = self.sender.send(event);
    }

    /// Ends for a listener that has missed an event: nobody polls, so one that went on would never learn of it.
    pub fn subscribe(&self) -> BoxStream<'static, ContainerEvent> {
        let receiver = self.sender.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|event| (event, receiver))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::ContainerEventKind;

    #[tokio::test]
    async fn a_listener_that_missed_an_event_hears_that_it_did() {
        let events = Events::new();
        let mut stream = events.subscribe();
        let event = ContainerEvent {
            kind: ContainerEventKind::Stopped,
            sandbox_id: String::new(),
            container_id: String::new(),
            pod_uid: String::new(),
        };
        events.announce(event.clone());
        assert!(stream.next().await.is_some());
        for _ in 0..=CAPACITY {
            events.announce(event.clone());
        }
        assert!(stream.next().await.is_none());
        assert!(futures::poll!(events.subscribe().next()).is_pending(), "whoever listens anew is not behind");
    }
}
