//! The stream of hints that something changed.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::broadcast;

use crate::cri::ContainerEvent;

/// Events a slow listener may be behind; then it misses some, which hints allow.
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

    pub fn subscribe(&self) -> BoxStream<'static, ContainerEvent> {
        let receiver = self.sender.subscribe();
        futures::stream::unfold(receiver, |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok(event) => return Some((event, receiver)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }
}
