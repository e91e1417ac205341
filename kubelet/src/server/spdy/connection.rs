//! One SPDY connection, server side: hands out the client's streams and writes to them.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{self, Control, FrameError, HEADER, Head};
use super::headers::{self, HeaderError, Headers};

/// Data is read and handed on in pieces of this size.
const CHUNK: usize = 32 * 1024;
/// Pieces waiting for a stream's reader; the whole connection waits with it, as there is no flow control.
const WAITING: usize = 64;
/// Streams a client may open at once.
const MAX_STREAMS: usize = 1024;
const REFUSED: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Headers(#[from] HeaderError),
}

/// What streams ask the connection to write.
enum Order {
    Reply(u32),
    Data { stream: u32, bytes: Bytes, fin: bool },
    Reset(u32),
    Ping(u32),
}

/// A stream the client opened.
pub struct Stream {
    pub headers: Headers,
    /// Ends when the client closes its side.
    pub incoming: mpsc::Receiver<Bytes>,
    pub writer: StreamWriter,
}

/// Our side of a stream. Dropping it without [`Self::finish`] leaves the stream open until the connection ends.
#[derive(Clone)]
pub struct StreamWriter {
    id: u32,
    orders: mpsc::Sender<Order>,
}

impl StreamWriter {
    /// `false` when the connection is gone.
    pub async fn write(&self, bytes: Bytes) -> bool {
        self.orders.send(Order::Data { stream: self.id, bytes, fin: false }).await.is_ok()
    }

    /// We send no more.
    pub async fn finish(&self) -> bool {
        self.orders.send(Order::Data { stream: self.id, bytes: Bytes::new(), fin: true }).await.is_ok()
    }

    pub async fn reset(&self) -> bool {
        self.orders.send(Order::Reset(self.id)).await.is_ok()
    }
}

/// Runs the connection, handing each new stream to `opened`. Ends with the client, on an error, or when the
/// receiver of streams and all writers are gone.
pub async fn run<T>(io: T, opened: mpsc::Sender<Stream>) -> Result<(), ConnectionError>
where
    T: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(io);
    let (orders, to_write) = mpsc::channel(WAITING);
    let mut write = std::pin::pin!(write_all(write, to_write));
    let outcome = {
        let read = std::pin::pin!(read_all(read, opened, orders));
        tokio::select! {
            outcome = read => outcome,
            outcome = &mut write => return outcome,
        }
    };
    // What was ordered before the client's end still goes out; without it nobody waits for the writers.
    let last = tokio::time::timeout(std::time::Duration::from_secs(1), write).await;
    outcome.and(last.unwrap_or(Ok(())))
}

async fn read_all(
    read: impl AsyncRead,
    opened: mpsc::Sender<Stream>,
    orders: mpsc::Sender<Order>,
) -> Result<(), ConnectionError> {
    let mut read = std::pin::pin!(read);
    let mut headers = headers::Reader::default();
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    loop {
        let mut head = [0; HEADER];
        tokio::select! {
            read = read.read_exact(&mut head) => match read {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            },
            // Nobody wants streams any more: the conversation is over.
            () = opened.closed() => return Ok(()),
        }
        match Head::parse(head)? {
            Head::Data { stream, fin, length } => {
                let mut left = length;
                while left > 0 {
                    let mut piece = vec![0; left.min(CHUNK)];
                    read.read_exact(&mut piece).await?;
                    left -= piece.len();
                    if let Some(to) = streams.get(&stream) {
                        // Data nobody reads is dropped.
                        let _ = to.send(Bytes::from(piece)).await;
                    }
                }
                if fin {
                    streams.remove(&stream);
                }
            }
            Head::Control { kind, flags, length } => {
                let mut payload = vec![0; length];
                read.read_exact(&mut payload).await?;
                match Control::parse(kind, flags, Bytes::from(payload))? {
                    Control::SynStream { stream, fin, block } => {
                        let headers = headers.read(&block)?;
                        streams.retain(|_, to| !to.is_closed());
                        if streams.len() >= MAX_STREAMS {
                            let _ = orders.send(Order::Reset(stream)).await;
                            continue;
                        }
                        let (to, incoming) = mpsc::channel(WAITING);
                        if !fin {
                            streams.insert(stream, to);
                        }
                        let _ = orders.send(Order::Reply(stream)).await;
                        let writer = StreamWriter { id: stream, orders: orders.clone() };
                        if opened.send(Stream { headers, incoming, writer }).await.is_err() {
                            return Ok(());
                        }
                    }
                    Control::Reset { stream } => {
                        streams.remove(&stream);
                    }
                    Control::Ping { id } => {
                        let _ = orders.send(Order::Ping(id)).await;
                    }
                    Control::Headers { block } => {
                        headers.read(&block)?;
                    }
                    Control::GoAway | Control::Other => {}
                }
            }
        }
    }
}

async fn write_all(write: impl AsyncWrite, mut orders: mpsc::Receiver<Order>) -> Result<(), ConnectionError> {
    let mut write = std::pin::pin!(write);
    let mut headers = headers::Writer::new()?;
    let mut out = BytesMut::new();
    let mut last = 0;
    while let Some(order) = orders.recv().await {
        match order {
            Order::Reply(stream) => {
                last = last.max(stream);
                frame::syn_reply(&mut out, stream, &headers.write(&[])?);
            }
            Order::Data { stream, bytes, fin } => {
                let mut pieces = bytes.chunks(CHUNK).peekable();
                if pieces.peek().is_none() {
                    frame::data(&mut out, stream, fin, &[]);
                }
                while let Some(piece) = pieces.next() {
                    frame::data(&mut out, stream, fin && pieces.peek().is_none(), piece);
                }
            }
            Order::Reset(stream) => frame::reset(&mut out, stream, REFUSED),
            Order::Ping(id) => frame::ping(&mut out, id),
        }
        write.write_all_buf(&mut out).await?;
        if orders.is_empty() {
            write.flush().await?;
        }
    }
    frame::go_away(&mut out, last);
    write.write_all_buf(&mut out).await?;
    write.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_carries_bytes_both_ways_and_closes_by_halves() {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (opened, mut streams) = mpsc::channel(4);
        let serving = tokio::spawn(run(server, opened));
        let (mut from, mut to) = tokio::io::split(client);
        let block =
            headers::Writer::new().expect("primed").write(&[("streamtype", "stdin")]).expect("written");
        let mut out = BytesMut::new();
        out.extend_from_slice(&[0x80, 3, 0, 1, 0, 0, 0, (10 + block.len()) as u8]);
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&block);
        frame::data(&mut out, 1, false, b"ping");
        frame::data(&mut out, 1, true, b"");
        to.write_all(&out).await.expect("written");

        let mut stream = streams.recv().await.expect("opened");
        assert_eq!(headers::find(&stream.headers, "streamType"), Some("stdin"));
        assert_eq!(stream.incoming.recv().await, Some(Bytes::from_static(b"ping")));
        assert_eq!(stream.incoming.recv().await, None, "the client closed its half");
        assert!(stream.writer.write(Bytes::from_static(b"pong")).await);
        assert!(stream.writer.finish().await);
        drop((stream, streams));

        let mut received = Vec::new();
        from.read_to_end(&mut received).await.expect("readable");
        serving.await.expect("no panic").expect("no error");
        let text = received.windows(4).any(|four| four == b"pong");
        assert!(text, "{received:?}");
    }
}
