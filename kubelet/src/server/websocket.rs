//! Streams over a WebSocket: the first byte (or character) of every message names its channel.
//!
//! | protocol | frames | error channel | half-close |
//! |---|---|---|---|
//! | (none), `channel.k8s.io` | binary | text | no |
//! | `base64.channel.k8s.io` | text, base64 | text | no |
//! | `v4.channel.k8s.io` | binary | Status | no |
//! | `v4.base64.channel.k8s.io` | text, base64 | Status | no |
//! | `v5.channel.k8s.io` | binary | Status | message 255 |

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::sync::mpsc;

use super::streams::{self, Out, Outcome, Remote, WAITING};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// v5: the channel in the second byte sends no more.
const CLOSE: u8 = 255;

/// Larger messages break the connection.
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// How long a client may take to close after it was told the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The best first.
pub const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

/// How channels are told apart on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    pub base64: bool,
    /// The error channel carries a Status rather than text.
    pub status: bool,
    pub half_close: bool,
}

impl Codec {
    /// Of the protocol agreed upon; none is the oldest.
    pub fn of(protocol: Option<&str>) -> Self {
        let protocol = protocol.unwrap_or_default();
        Self {
            base64: protocol.contains("base64"),
            status: protocol.starts_with('v'),
            half_close: protocol.starts_with("v5"),
        }
    }

    pub fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::with_capacity(1 + data.len().div_ceil(3) * 4);
            text.push(char::from(b'0' + channel));
            STANDARD.encode_string(data, &mut text);
            return Message::Text(text.into());
        }
        let mut bytes = BytesMut::with_capacity(1 + data.len());
        bytes.extend_from_slice(&[channel]);
        bytes.extend_from_slice(data);
        Message::Binary(bytes.freeze())
    }

    /// Channel and bytes; `None` for what carries neither.
    pub fn decode(self, message: &Message) -> Option<(u8, Bytes)> {
        match message {
            Message::Binary(bytes) if !self.base64 => {
                let channel = *bytes.first()?;
                Some((channel, bytes.slice(1..)))
            }
            Message::Text(text) if self.base64 => {
                let channel = text.as_bytes().first()?.checked_sub(b'0')?;
                let data = STANDARD.decode(text.get(1..)?).ok()?;
                Some((channel, Bytes::from(data)))
            }
            _ => None,
        }
    }

    pub fn end(self, outcome: &Outcome) -> Vec<u8> {
        if self.status { outcome.status().to_string().into_bytes() } else { outcome.text().into_bytes() }
    }
}

/// What the client asked to have connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Runs exec or attach over a socket.
pub async fn serve<F>(socket: WebSocket, wanted: Wanted, start: F)
where
    F: Future<Output = knarr_runtime::cri::Result<knarr_runtime::cri::Streams>>,
{
    let codec = Codec::of(socket.protocol().and_then(|p| p.to_str().ok()));
    let (mut sink, mut source) = socket.split();
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    // Clients take this for the sign that the streams are up.
    if sink.send(codec.encode(first, &[])).await.is_err() {
        return;
    }
    let (out, mut outgoing) = mpsc::channel(WAITING);
    let (stdin_in, stdin) = mpsc::channel(WAITING);
    let (resize_in, resize) = mpsc::channel(WAITING);
    let remote = Remote { stdin: wanted.stdin.then_some(stdin), resize: wanted.tty.then_some(resize), out };
    let incoming = async move {
        let (mut stdin, resize) = (Some(stdin_in), resize_in);
        while let Some(Ok(message)) = source.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
            let Some((channel, data)) = codec.decode(&message) else { continue };
            match channel {
                STDIN => {
                    if let Some(to) = &stdin
                        && !data.is_empty()
                        && to.send(data).await.is_err()
                    {
                        stdin = None;
                    }
                }
                RESIZE => {
                    if let Some(size) = streams::parse_size(&data) {
                        // Without a terminal nobody listens.
                        let _ = resize.send(size).await;
                    }
                }
                CLOSE if codec.half_close && data.first() == Some(&STDIN) => stdin = None,
                _ => {}
            }
        }
    };
    let outgoing = async move {
        while let Some(out) = outgoing.recv().await {
            let sent = match &out {
                Out::Stdout(data) => sink.send(codec.encode(STDOUT, data)).await,
                Out::Stderr(data) => sink.send(codec.encode(STDERR, data)).await,
                Out::End(outcome) => sink.send(codec.encode(ERROR, &codec.end(outcome))).await,
            };
            if sent.is_err() {
                return;
            }
        }
        let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
        let _ = sink.send(Message::Close(Some(frame))).await;
    };
    let process = async {
        let started = start.await;
        streams::run(started, remote).await;
    };
    let mut incoming = std::pin::pin!(incoming);
    // Output is sent to its end; a client that hangs up ends the rest.
    tokio::select! {
        () = async { tokio::join!(process, outgoing); } => {
            // A client that is just sending would find the connection broken: it closes first.
            let _ = tokio::time::timeout(FAREWELL, incoming).await;
        }
        () = &mut incoming => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_reads_what_it_writes() {
        for protocol in PROTOCOLS {
            let codec = Codec::of(Some(protocol));
            let message = codec.encode(STDOUT, b"data");
            assert_eq!(codec.decode(&message), Some((STDOUT, Bytes::from_static(b"data"))), "{protocol}");
            assert_eq!(codec.decode(&codec.encode(STDERR, b"")), Some((STDERR, Bytes::new())));
        }
        assert!(Codec::of(Some("v5.channel.k8s.io")).half_close);
        assert!(!Codec::of(None).status);
    }

    #[test]
    fn junk_is_not_decoded() {
        let codec = Codec::of(Some("v4.base64.channel.k8s.io"));
        assert_eq!(codec.decode(&Message::Text("1***".into())), None);
        assert_eq!(codec.decode(&Message::Text("".into())), None);
        assert_eq!(codec.decode(&Message::Text("ü".into())), None);
        assert_eq!(Codec::of(None).decode(&Message::Binary(Bytes::new())), None);
    }
}
