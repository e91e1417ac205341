//! Answers that clients read over a WebSocket, as browsers must: messages go one way, what a client sends is ignored.

use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::authn::WEBSOCKET_TOKEN_PREFIX;
use crate::stream::upgrade;

/// Nothing that a client may send is of use; who sends larger messages is cut off.
const MAX_MESSAGE: usize = 64 * 1024;
/// How long a client may take to close after it was told the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether the answer is to go over a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    upgrade(headers).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The subprotocols that the client offers, in its order. One that carries a token is for the authenticator only.
pub(crate) fn offered(headers: &HeaderMap) -> Vec<&str> {
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let offered = offered.into_iter().flat_map(|list| list.split(',')).map(str::trim);
    offered.filter(|name| !name.is_empty() && !name.starts_with(WEBSOCKET_TOKEN_PREFIX)).collect()
}

/// A message of text; bytes that are none go as they are.
pub(crate) fn text(bytes: Bytes) -> Message {
    match Utf8Bytes::try_from(bytes.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(bytes),
    }
}

/// Agrees to the request's upgrade, speaking `protocol` (empty: none), and sends the messages until they end or the
/// client leaves. A request that is no proper handshake is refused.
pub(crate) async fn serve(
    request: Request<Body>,
    protocol: &str,
    messages: impl Stream<Item = Message> + Send + 'static,
) -> Response<Body> {
    let (mut parts, _) = request.into_parts();
    let mut accepted = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(accepted) => accepted.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE),
        Err(refused) => return refused.into_response(),
    };
    if let Ok(protocol) = HeaderValue::from_str(protocol)
        && !protocol.is_empty()
    {
        accepted.set_selected_protocol(protocol);
    }
    accepted.on_upgrade(|socket| send_all(socket, messages))
}

async fn send_all(socket: WebSocket, messages: impl Stream<Item = Message>) {
    let (mut sink, mut source) = socket.split();
    let left = async {
        while let Some(Ok(message)) = source.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
        }
    };
    let sending = async {
        let mut messages = std::pin::pin!(messages);
        while let Some(message) = messages.next().await {
            sink.send(message).await?;
        }
        let end = CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::default() };
        sink.send(Message::Close(Some(end))).await
    };
    tokio::select! {
        () = left => return,
        sent = sending => if let Err(error) = sent {
            tracing::debug!(%error, "a client left its socket");
            return;
        }
    }
    let closed = async { while let Some(Ok(_)) = source.next().await {} };
    if tokio::time::timeout(FAREWELL, closed).await.is_err() {
        tracing::debug!("a client did not close its socket");
    }
}
