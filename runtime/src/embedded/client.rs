//! The agent's side of a shim's socket.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::shim::protocol::{self, Answer, Event, Failure, Message, Op, Request};
use crate::shim::wire;

/// Why a request got no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("shim is gone")]
    Gone,
    #[error("shim speaks protocol version {0}, this agent speaks {ours}", ours = protocol::VERSION)]
    Version(u32),
    #[error("{}", .0.message)]
    Refused(Failure),
    #[error("shim gave an unexpected answer")]
    Unexpected,
    #[error("shim socket: {0}")]
    Io(#[from] std::io::Error),
}

/// Who waits for which answer; `None` once the shim is gone.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>>;

type Reply = (Result<Answer, Failure>, Vec<OwnedFd>);

/// A connection. Clones share it; it closes with the last.
#[derive(Debug)]
pub struct Client {
    socket: Arc<AsyncFd<OwnedFd>>,
    pending: Pending,
    next: AtomicU64,
    reader: tokio::task::JoinHandle<()>,
    /// The shim has hung up.
    gone: CancellationToken,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Connects to the shim of a container's directory; its events arrive on the receiver, which ends with the
    /// shim.
    pub async fn connect(directory: &Path) -> Result<(Self, mpsc::UnboundedReceiver<Event>), Error> {
        // By way of a descriptor, since a socket's path is limited to 107 bytes.
        let handle = std::fs::File::open(directory)?;
        let path = format!("/proc/self/fd/{}/{}", handle.as_raw_fd(), protocol::SOCKET);
        let socket = wire::connect(Path::new(&path))?;
        let socket = Arc::new(crate::sys::watch(socket, Interest::READABLE | Interest::WRITABLE)?);
        let pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (events, receiver) = mpsc::unbounded_channel();
        let gone = CancellationToken::new();
        let reading = read(Arc::clone(&socket), Arc::clone(&pending), events, gone.clone().drop_guard());
        let reader = tokio::spawn(reading);
        let client = Client { socket, pending, next: AtomicU64::new(1), reader, gone };
        match client.call(Op::Hello { version: protocol::VERSION }, &[]).await?.0 {
            Answer::Hello { version: protocol::VERSION } => Ok((client, receiver)),
            Answer::Hello { version } => Err(Error::Version(version)),
            _ => Err(Error::Unexpected),
        }
    }

    /// One request with its answer, and the descriptors that came with it.
    pub async fn call(&self, op: Op, descriptors: &[RawFd]) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let text = serde_json::to_vec(&Request { id, op }).map_err(std::io::Error::from)?;
        let (sender, receiver) = oneshot::channel();
        self.pending.lock().as_mut().ok_or(Error::Gone)?.insert(id, sender);
        self.send(&text, descriptors).await?;
        let (result, descriptors) = receiver.await.map_err(|_| Error::Gone)?;
        Ok((result.map_err(Error::Refused)?, descriptors))
    }

    /// Tells the shim to kill what is left and to leave; returns when it has left. Gone already is fine.
    pub async fn dismiss(&self) -> Result<(), Error> {
        match self.call(Op::Delete, &[]).await {
            // A process's memory goes before its sockets: what named the container names it no longer.
            Ok(_) => self.gone.cancelled().await,
            Err(Error::Gone) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn send(&self, text: &[u8], descriptors: &[RawFd]) -> Result<(), Error> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(sent) = ready.try_io(|socket| wire::send(socket.get_ref(), text, descriptors)) {
                return match sent.map_err(|error| error.kind()) {
                    Ok(()) => Ok(()),
                    Err(std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset) => {
                        Err(Error::Gone)
                    }
                    Err(kind) => Err(Error::Io(kind.into())),
                };
            }
        }
    }
}

async fn read(
    socket: Arc<AsyncFd<OwnedFd>>,
    pending: Pending,
    events: mpsc::UnboundedSender<Event>,
    _gone: DropGuard,
) {
    while let Ok(mut ready) = socket.readable().await {
        let Ok(received) = ready.try_io(|socket| wire::receive(socket.get_ref())) else { continue };
        let Ok((text, descriptors)) = received else { break };
        if text.is_empty() {
            break;
        }
        match serde_json::from_slice(&text) {
            Ok(Message::Reply { id, result }) => {
                let waiting = pending.lock().as_mut().and_then(|pending| pending.remove(&id));
                if let Some(waiting) = waiting {
                    // Who asked may have given up.
                    let _unwanted = waiting.send((result, descriptors));
                }
            }
            Ok(Message::Event(event)) => {
                // Who only wants to ask something does not listen.
                let _unwanted = events.send(event);
            }
            Err(error) => {
                tracing::warn!(%error, "shim sent what is no message");
                break;
            }
        }
    }
    // Everyone who waits learns that the shim is gone.
    pending.lock().take();
}
