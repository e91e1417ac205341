//! Exec and attach over SPDY: one stream each for input, output, errors, terminal sizes and the end.

use std::collections::HashMap;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Upgrade;
use super::connection::{self, Stream, StreamWriter};
use super::headers::find;
use crate::server::streams::{self, Out, Outcome, Remote, WAITING};
use crate::server::websocket::Wanted;

const PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// All streams are opened within this time.
const SET_UP: Duration = Duration::from_secs(30);

/// Switches to SPDY and runs exec or attach.
pub fn answer<F>(upgrade: Upgrade, wanted: Wanted, start: F) -> Response
where
    F: Future<Output = knarr_runtime::cri::Result<knarr_runtime::cri::Streams>> + Send + 'static,
{
    let Some(protocol) = upgrade.choose(&PROTOCOLS, "channel.k8s.io") else {
        return upgrade.refuse(&PROTOCOLS);
    };
    upgrade.answer(protocol, move |io| async move {
        let (opened, streams) = mpsc::channel(WAITING);
        let connection = connection::run(io, opened);
        let conversation = serve(streams, wanted, protocol, start);
        let (connection, ()) = tokio::join!(connection, conversation);
        if let Err(error) = connection {
            tracing::debug!(%error, "a SPDY connection ended");
        }
    })
}

async fn serve<F>(mut opened: mpsc::Receiver<Stream>, wanted: Wanted, protocol: &str, start: F)
where
    F: Future<Output = knarr_runtime::cri::Result<knarr_runtime::cri::Streams>>,
{
    let mut expected = vec!["error"];
    expected.extend(wanted.stdin.then_some("stdin"));
    expected.extend(wanted.stdout.then_some("stdout"));
    expected.extend(wanted.stderr.then_some("stderr"));
    let sized = wanted.tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    expected.extend(sized.then_some("resize"));
    let mut streams: HashMap<String, Stream> = HashMap::new();
    let gather = async {
        while streams.len() < expected.len() {
            let Some(stream) = opened.recv().await else { return false };
            let kind = find(&stream.headers, "streamType").unwrap_or_default().to_owned();
            if expected.contains(&kind.as_str()) {
                streams.insert(kind, stream);
            } else {
                stream.writer.reset().await;
            }
        }
        true
    };
    if !matches!(tokio::time::timeout(SET_UP, gather).await, Ok(true)) {
        return;
    }
    let (out, outgoing) = mpsc::channel(WAITING);
    let mut part = |kind: &str| streams.remove(kind).map(|stream| (stream.incoming, stream.writer));
    let (stdin, stdout, stderr) = (part("stdin"), part("stdout"), part("stderr"));
    let (error, resize) = (part("error"), part("resize"));
    let (sizes_in, sizes) = mpsc::channel(WAITING);
    let remote = Remote { stdin: stdin.map(|(incoming, _)| incoming), resize: sized.then_some(sizes), out };
    let resizing = async {
        let Some((mut incoming, _)) = resize else { return };
        while let Some(bytes) = incoming.recv().await {
            if let Some(size) = streams::parse_size(&bytes)
                && sizes_in.send(size).await.is_err()
            {
                return;
            }
        }
    };
    let writers = Writers {
        stdout: stdout.map(|(_, writer)| writer),
        stderr: stderr.map(|(_, writer)| writer),
        error: error.map(|(_, writer)| writer),
        status: protocol == "v4.channel.k8s.io",
    };
    let process = async {
        let started = start.await;
        tokio::join!(streams::run(started, remote), writers.run(outgoing));
    };
    tokio::select! {
        () = process => {}
        () = async { resizing.await; std::future::pending().await } => {}
        // No further streams are expected: this is the client going away.
        () = async { while opened.recv().await.is_some() {} } => {}
    }
}

struct Writers {
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
    error: Option<StreamWriter>,
    /// The error stream carries a Status rather than text.
    status: bool,
}

impl Writers {
    async fn run(self, mut outgoing: mpsc::Receiver<Out>) {
        while let Some(out) = outgoing.recv().await {
            match out {
                Out::Stdout(bytes) => send(self.stdout.as_ref(), bytes).await,
                Out::Stderr(bytes) => send(self.stderr.as_ref(), bytes).await,
                Out::End(outcome) => {
                    send(self.error.as_ref(), self.end(&outcome)).await;
                    for writer in [&self.stdout, &self.stderr, &self.error].into_iter().flatten() {
                        writer.finish().await;
                    }
                }
            }
        }
    }

    fn end(&self, outcome: &Outcome) -> Bytes {
        Bytes::from(if self.status { outcome.status().to_string() } else { outcome.text() })
    }
}

async fn send(to: Option<&StreamWriter>, bytes: Bytes) {
    if let Some(to) = to
        && !bytes.is_empty()
    {
        to.write(bytes).await;
    }
}
