//! `/portForward`: TCP connections into a pod, over WebSocket channels, SPDY streams, or SPDY within a WebSocket.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{Path, RawQuery, State as Extract};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::StatusCode;
use knarr_runtime::cri::ContainerRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::exec::form;
use super::upgrade::{Upgrade, refuse};
use super::websocket::{Codec, MAX_MESSAGE};
use super::{State, spdy};
use crate::pod::spec;

const CHUNK: usize = 32 * 1024;
const WAITING: usize = 8;
/// Ports of one WebSocket: each takes two of its channels.
const MAX_PORTS: usize = 64;
/// SPDY within a WebSocket, as kubectl tunnels it.
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Channels by port, as upstream offers them.
const CHANNELS: [&str; 4] =
    ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", "portforward.k8s.io", "channel.k8s.io"];

/// Where connections go.
#[derive(Clone)]
pub struct Target {
    pub runtime: Arc<dyn ContainerRuntime>,
    pub sandbox: String,
    /// For error messages.
    pub pod: String,
    pub uid: String,
}

impl Target {
    /// Text of a connection that could not be made, as clients show it.
    pub fn failure(&self, port: u16, error: &dyn std::fmt::Display) -> String {
        format!("error forwarding port {port} to pod {}, uid : {error}", self.sandbox)
    }
}

fn locate(state: &State, path: &HashMap<String, String>) -> Result<Target, (StatusCode, String)> {
    let of = |name: &str| path.get(name).map(String::as_str).unwrap_or_default();
    let (namespace, name, uid) = (of("namespace"), of("pod"), of("uid"));
    let missing = || (StatusCode::NOT_FOUND, format!("pod does not exist: {name}_{namespace}"));
    let inbox = state.find(namespace, name).ok_or_else(missing)?;
    let pod = inbox.pod();
    if !uid.is_empty() && spec::uid(&pod) != uid {
        return Err(missing());
    }
    let observed = inbox.observed();
    let missing = || (StatusCode::NOT_FOUND, format!("pod not found (\"{name}_{namespace}\")"));
    let sandbox = observed.ready_sandbox().ok_or_else(missing)?;
    Ok(Target {
        runtime: Arc::clone(&state.agent.runtime),
        sandbox: sandbox.id.clone(),
        pod: spec::display(&pod),
        uid: spec::uid(&pod).to_owned(),
    })
}

pub async fn handle(
    Extract(state): Extract<State>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    let target = match locate(&state, &path) {
        Ok(target) => target,
        Err(refused) => return refused.into_response(),
    };
    let upgrade = match upgrade {
        Upgrade::Spdy(upgrade) => return spdy::forward::answer(upgrade, target),
        Upgrade::WebSocket(upgrade) => upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE),
    };
    let tunnel = upgrade
        .requested_protocols()
        .any(|p| p.to_str().is_ok_and(|p| p.split(',').any(|p| p.trim() == TUNNEL)));
    if tunnel {
        return upgrade
            .protocols([TUNNEL])
            .on_upgrade(move |socket| spdy::forward::serve_tunnel(socket, target));
    }
    let ports: Result<Vec<u16>, _> = form(query.as_deref().unwrap_or_default())
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "port" | "ports"))
        .flat_map(|(_, value)| value.split(','))
        .map(str::parse)
        .collect();
    match ports {
        Ok(ports) if !ports.is_empty() && ports.len() <= MAX_PORTS && !ports.contains(&0) => {
            upgrade.protocols(CHANNELS).on_upgrade(move |socket| serve_channels(socket, ports, target))
        }
        Ok(ports) if ports.is_empty() => refuse("query parameter \"port\" is required"),
        _ => refuse("query parameter \"port\" must be numbers between 1 and 65535"),
    }
}

/// Channel `2n` carries the bytes of port n, `2n+1` its errors; both begin with the port in two bytes.
async fn serve_channels(socket: WebSocket, ports: Vec<u16>, target: Target) {
    let codec = Codec::of(socket.protocol().and_then(|p| p.to_str().ok()));
    let (mut sink, mut source) = socket.split();
    let (out, mut outgoing) = mpsc::channel::<(u8, Bytes)>(WAITING);
    let mut inputs = Vec::new();
    let mut connections = tokio::task::JoinSet::new();
    for (index, port) in ports.into_iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        let greeting = Bytes::copy_from_slice(&port.to_le_bytes());
        for channel in [channel, channel + 1] {
            if sink.send(codec.encode(channel, &greeting)).await.is_err() {
                return;
            }
        }
        let (input, from) = mpsc::channel(WAITING);
        inputs.push(input);
        connections.spawn(forward(target.clone(), port, channel, from, out.clone()));
    }
    drop(out);
    let incoming = async {
        while let Some(Ok(message)) = source.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
            let Some((channel, data)) = codec.decode(&message) else { continue };
            // Errors go one way only.
            let input = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(input) = input {
                // A connection that is closed takes no more.
                let _ = input.send(data).await;
            }
        }
    };
    let sending = async {
        while let Some((channel, data)) = outgoing.recv().await {
            if sink.send(codec.encode(channel, &data)).await.is_err() {
                return;
            }
        }
        let _ = sink.send(Message::Close(None)).await;
    };
    // Dropping the set ends the connections.
    tokio::select! {
        () = incoming => {}
        () = sending => {}
    }
}

async fn forward(
    target: Target,
    port: u16,
    channel: u8,
    mut from: mpsc::Receiver<Bytes>,
    out: mpsc::Sender<(u8, Bytes)>,
) {
    let stream = match target.runtime.port_forward(&target.sandbox, port).await {
        Ok(stream) => stream,
        Err(error) => {
            let text = target.failure(port, &error);
            let _ = out.send((channel + 1, Bytes::from(text))).await;
            return;
        }
    };
    let (mut read, mut write) = stream.into_split();
    let writing = async {
        while let Some(bytes) = from.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            if out.send((channel, Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = async { writing.await; std::future::pending::<()>().await } => {}
    }
}
