//! Port forwarding over SPDY: per connection one data and one error stream, which share a request id.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use futures::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Upgrade;
use super::connection::{self, Stream};
use super::headers::find;
use crate::server::port_forward::Target;

const PROTOCOL: &str = "portforward.k8s.io";
const CHUNK: usize = 32 * 1024;
const WAITING: usize = 8;
/// Half-open requests a client may have.
const MAX_PENDING: usize = 256;

pub fn answer(upgrade: Upgrade, target: Target) -> Response {
    let Some(protocol) = upgrade.choose(&[PROTOCOL], PROTOCOL) else { return upgrade.refuse(&[PROTOCOL]) };
    upgrade.answer(protocol, move |io| serve(io, target))
}

/// kubectl's tunnel: SPDY's bytes in binary messages.
pub async fn serve_tunnel(socket: WebSocket, target: Target) {
    serve(Tunnel { socket, unread: Bytes::new() }, target).await;
}

async fn serve(io: impl AsyncRead + AsyncWrite, target: Target) {
    let (opened, streams) = mpsc::channel(WAITING);
    let (connection, ()) = tokio::join!(connection::run(io, opened), pair_up(streams, target));
    if let Err(error) = connection {
        tracing::debug!(%error, "a SPDY connection ended");
    }
}

/// Brings the two streams of each request together.
async fn pair_up(mut opened: mpsc::Receiver<Stream>, target: Target) {
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = opened.recv() => stream,
            Some(_) = connections.join_next() => continue,
        };
        let Some(stream) = stream else { return };
        let of = |name: &str| find(&stream.headers, name).unwrap_or_default().to_owned();
        let (kind, port) = (of("streamType"), of("port").parse::<u16>().ok().filter(|port| *port > 0));
        let valid = matches!(kind.as_str(), "data" | "error");
        let (Some(port), true) = (port, valid) else {
            stream.writer.reset().await;
            continue;
        };
        // Old clients number nothing: then the port tells the pair.
        let request = Some(of("requestID")).filter(|id| !id.is_empty()).unwrap_or_else(|| port.to_string());
        match waiting.remove(&request) {
            None if waiting.len() >= MAX_PENDING => {
                stream.writer.reset().await;
            }
            None => {
                waiting.insert(request, stream);
            }
            Some(other) => {
                let (data, error) = if kind == "data" { (stream, other) } else { (other, stream) };
                connections.spawn(forward(target.clone(), port, data, error));
            }
        }
    }
}

async fn forward(target: Target, port: u16, data: Stream, error: Stream) {
    let tcp = match target.runtime.port_forward(&target.sandbox, port).await {
        Ok(tcp) => tcp,
        Err(cause) => {
            error.writer.write(Bytes::from(target.failure(port, &cause))).await;
            error.writer.finish().await;
            data.writer.finish().await;
            return;
        }
    };
    let (mut read, mut write) = tcp.into_split();
    let mut incoming = data.incoming;
    let to_pod = async {
        while let Some(bytes) = incoming.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The client has said all; the pod may still answer.
        let _ = write.shutdown().await;
    };
    let from_pod = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if !data.writer.write(Bytes::copy_from_slice(&buffer[..count])).await {
                return;
            }
        }
        data.writer.finish().await;
        error.writer.finish().await;
    };
    tokio::select! {
        () = from_pod => {}
        () = async { to_pod.await; std::future::pending::<()>().await } => {}
    }
}

/// A WebSocket's binary messages as one stream of bytes.
struct Tunnel {
    socket: WebSocket,
    unread: Bytes,
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(std::io::Error::other(error))),
            }
        }
        let count = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(std::io::Error::other)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.socket).start_send(message).map_err(std::io::Error::other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(std::io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(std::io::Error::other)
    }
}
