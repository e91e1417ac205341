//! One call of a gRPC method over a connection of its own: probes ask containers, and the agent asks plugins of this
//! node, seldom enough that no connection is kept.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

/// Larger answers are refused, as Go's gRPC does by default.
const MAX_ANSWER: usize = 4 << 20;
/// Whether the message is compressed, and its length.
const FRAME: usize = 5;

/// gRPC's codes, by number, in Go's words.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

pub const CANCELED: i32 = 1;
pub const UNKNOWN: i32 = 2;
pub const DEADLINE_EXCEEDED: i32 = 4;
pub const RESOURCE_EXHAUSTED: i32 = 8;
pub const ABORTED: i32 = 10;
pub const UNIMPLEMENTED: i32 = 12;
pub const INTERNAL: i32 = 13;
pub const UNAVAILABLE: i32 = 14;

/// How a call ended that did not end well; shown as Go shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: i32,
    pub message: String,
    /// The server said so; else it is what became of the call on this side.
    pub answered: bool,
}

impl Status {
    /// A call that ended on this side.
    pub fn new(code: i32, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), answered: false }
    }

    /// Nobody answered.
    pub fn connection(message: impl fmt::Display) -> Self {
        Self::new(UNAVAILABLE, format_args!("connection error: desc = \"{message}\""))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.code).ok().and_then(|code| CODES.get(code));
        match name {
            Some(name) => write!(f, "rpc error: code = {name} desc = {}", self.message),
            None => write!(f, "rpc error: code = Code({}) desc = {}", self.code, self.message),
        }
    }
}

impl std::error::Error for Status {}

/// What is called, and as whom.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    pub authority: &'a str,
    /// `/package.Service/Method`.
    pub path: &'a str,
    pub user_agent: &'a str,
}

/// Calls a method of the plugin that listens on a socket of this machine, within a time.
pub async fn call_socket<Q: prost::Message, A: prost::Message + Default>(
    socket: &Path,
    path: &str,
    request: &Q,
    timeout: Duration,
) -> Result<A, Status> {
    let method = Method { scheme: "http", authority: "localhost", path, user_agent: "kubelet" };
    let calling = async {
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            let socket = socket.display();
            let error = error.kind();
            Status::connection(format_args!(
                "transport: Error while dialing: dial unix {socket}: connect: {error}"
            ))
        })?;
        let answer = call(stream, method, Some(timeout), &request.encode_to_vec()).await?;
        A::decode(answer).map_err(|error| {
            Status::new(INTERNAL, format_args!("grpc: failed to unmarshal the received message: {error}"))
        })
    };
    let late = Status::new(DEADLINE_EXCEEDED, "context deadline exceeded");
    tokio::time::timeout(timeout, calling).await.unwrap_or(Err(late))
}

/// Calls a method over a fresh connection; the answer's message as it was sent.
pub async fn call(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: Method<'_>,
    timeout: Option<Duration>,
    message: &[u8],
) -> Result<Bytes, Status> {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(Status::connection)?;
    let mut request = Request::post(format!("{}://{}{}", method.scheme, method.authority, method.path))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, method.user_agent);
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", format!("{}m", timeout.as_millis().min(99_999_999)));
    }
    let request = request.body(Full::new(frame(message))).map_err(|error| Status::new(INTERNAL, error))?;
    let call = async move {
        let response = sender.send_request(request).await.map_err(Status::connection)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER + FRAME)
            .collect()
            .await
            .map_err(|error| Status::new(UNAVAILABLE, format_args!("error reading from server: {error}")))?;
        // A call that fails at once has its status among the headers.
        let ended = body.trailers().and_then(status).or_else(|| status(&parts.headers));
        match ended {
            Some(Status { code: 0, .. }) => unframe(body.to_bytes()),
            Some(status) => Err(status),
            None => Err(Status::new(
                UNKNOWN,
                format_args!("unexpected HTTP status code received from server: {}", parts.status),
            )),
        }
    };
    tokio::pin!(call);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut call => answer,
        _ = &mut connection => call.await,
    }
}

/// The status that headers or trailers tell, if they do.
fn status(headers: &HeaderMap) -> Option<Status> {
    let code =
        headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
    let message = headers
        .get("grpc-message")
        .map(|value| percent_encoding::percent_decode(value.as_bytes()).decode_utf8_lossy().into_owned());
    Some(Status { code, message: message.unwrap_or_default(), answered: true })
}

fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len() + FRAME);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

fn unframe(mut framed: Bytes) -> Result<Bytes, Status> {
    let wrong = |what: &str| Err(Status::new(INTERNAL, what));
    let Some((head, _)) = framed.split_first_chunk::<FRAME>() else {
        return wrong("the answer has no message");
    };
    let (compressed, length) = (head[0] != 0, u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
    let message = framed.split_off(FRAME);
    if compressed {
        return wrong("the answer is compressed, which was not asked for");
    }
    if usize::try_from(length) != Ok(message.len()) {
        return wrong("the answer is not one message");
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_as_grpc_does() {
        assert_eq!(&frame(b"")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&frame(b"ab")[..], [0, 0, 0, 0, 2, b'a', b'b']);
        assert_eq!(unframe(frame(b"ab")).expect("one message"), "ab");
        for wrong in [&b""[..], &[0, 0, 0, 0], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 1], &[0, 0, 0, 0, 0, 1]] {
            assert!(unframe(Bytes::copy_from_slice(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn errors_read_as_in_go() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", "5".parse().expect("a value"));
        headers.insert("grpc-message", "no%20volume".parse().expect("a value"));
        let found = status(&headers).expect("a status");
        assert_eq!(found.to_string(), "rpc error: code = NotFound desc = no volume");
        assert_eq!(Status::new(99, "x").to_string(), "rpc error: code = Code(99) desc = x");
    }
}
