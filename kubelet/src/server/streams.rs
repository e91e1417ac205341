//! Exec and attach, whatever carries their streams: bytes in, bytes out, terminal sizes, and how it ended.

use std::time::Duration;

use bytes::Bytes;
use knarr_runtime::cri::{self, Reader, Streams, Writer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Read from a container at once.
const CHUNK: usize = 32 * 1024;
/// Chunks waiting for a slow peer.
pub const WAITING: usize = 8;
/// After a process ended, its children may hold its streams open: not for longer than this.
const DRAIN: Duration = Duration::from_secs(2);

/// What goes to the client.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    Stdout(Bytes),
    Stderr(Bytes),
    /// The end: how it went.
    End(Outcome),
}

/// How a command or an attachment ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Success,
    ExitCode(i32),
    Failed(String),
}

impl Outcome {
    /// The Status of the error channel, protocols v4 and v5.
    pub fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": self.text(),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failed(_) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {}", self.text()),
                "reason": "InternalError",
                "details": {"causes": [{"message": self.text()}]},
                "code": 500,
            }),
        }
    }

    /// The text of the error channel in older protocols; empty for success.
    pub fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => {
                format!(
                    "command terminated with non-zero exit code: command terminated with exit code {code}"
                )
            }
            Self::Failed(why) => format!("error executing command in container: {why}"),
        }
    }
}

/// The client's side of one exec or attach. Dropping the senders is the end of what they send.
pub struct Remote {
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    pub resize: Option<mpsc::Receiver<(u16, u16)>>,
    pub out: mpsc::Sender<Out>,
}

/// Carries bytes until the process has ended or the client is gone.
pub async fn run(started: cri::Result<Streams>, remote: Remote) {
    let Remote { stdin, resize, out } = remote;
    let streams = match started {
        Ok(streams) => streams,
        Err(error) => {
            // A client that is gone needs no answer.
            let _ = out.send(Out::End(Outcome::Failed(error.to_string()))).await;
            return;
        }
    };
    let Streams { stdin: writer, stdout, stderr, resize: sizes, exit } = streams;
    let input = feed(stdin, writer);
    let resizing = async {
        let (Some(mut from), Some(to)) = (resize, sizes) else { return };
        while let Some(size) = from.recv().await {
            if to.send(size).await.is_err() {
                return;
            }
        }
    };
    let output = async {
        tokio::join!(copy(stdout, &out, Out::Stdout), copy(stderr, &out, Out::Stderr));
    };
    let (mut input, mut resizing, mut output) =
        (std::pin::pin!(input), std::pin::pin!(resizing), std::pin::pin!(output));
    let (mut input_open, mut resize_open, mut output_open) = (true, true, true);
    let mut exit = exit;
    let ended = loop {
        tokio::select! {
            ended = &mut exit => break ended,
            () = &mut input, if input_open => input_open = false,
            () = &mut resizing, if resize_open => resize_open = false,
            () = &mut output, if output_open => output_open = false,
            () = out.closed() => return,
        }
    };
    if output_open && tokio::time::timeout(DRAIN, &mut output).await.is_err() {
        tracing::debug!("a process ended and left its streams open");
    }
    let outcome = match ended {
        Ok(Ok(0)) => Outcome::Success,
        Ok(Ok(code)) => Outcome::ExitCode(code),
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed("the container runtime gave no exit code".to_owned()),
    };
    let _ = out.send(Out::End(outcome)).await;
}

/// Writes what the client sends, then closes the process's input.
async fn feed(from: Option<mpsc::Receiver<Bytes>>, to: Option<Writer>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Some(bytes) = from.recv().await {
        // A process that reads no more (head) is no error.
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn copy(from: Option<Reader>, to: &mpsc::Sender<Out>, wrap: fn(Bytes) -> Out) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                if to.send(wrap(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A terminal size as clients send it: `{"Width":80,"Height":24}`.
pub fn parse_size(bytes: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let side = |name: &str| value.get(name)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some((side("Width")?, side("Height")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(output: &'static [u8], exit: cri::Result<i32>) -> Streams {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        sender.send(exit).expect("the receiver is here");
        Streams { stdin: None, stdout: Some(Box::new(output)), stderr: None, resize: None, exit: receiver }
    }

    #[tokio::test]
    async fn output_comes_before_the_exit_code() {
        let (out, mut seen) = mpsc::channel(WAITING);
        run(Ok(streams(b"hello", Ok(3))), Remote { stdin: None, resize: None, out }).await;
        assert_eq!(seen.recv().await, Some(Out::Stdout(Bytes::from_static(b"hello"))));
        let Some(Out::End(outcome)) = seen.recv().await else { panic!("no end") };
        assert_eq!(outcome.status()["details"]["causes"][0]["message"], "3");
        assert_eq!(outcome.status()["reason"], "NonZeroExitCode");
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_is_told_on_the_error_channel() {
        let (out, mut seen) = mpsc::channel(WAITING);
        let error = cri::Error::Invalid("no such file".into());
        run(Err(error), Remote { stdin: None, resize: None, out }).await;
        let Some(Out::End(outcome)) = seen.recv().await else { panic!("no end") };
        assert_eq!(outcome.text(), "error executing command in container: no such file");
    }

    #[test]
    fn sizes_are_read_and_junk_is_not() {
        assert_eq!(parse_size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(parse_size(br#"{"Width":-1,"Height":24}"#), None);
        assert_eq!(parse_size(b"x"), None);
    }
}
