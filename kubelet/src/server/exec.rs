//! `/exec`, `/attach` and `/run`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State as Extract};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use knarr_runtime::cri::StreamOptions;

use super::upgrade::{Upgrade, refuse};
use super::websocket::{self, MAX_MESSAGE, PROTOCOLS, Wanted};
use super::{State, spdy};
use crate::pod::spec;

/// Decodes a query, keeping repeated names (`command`) in order.
fn parse(query: Option<String>) -> Vec<(String, String)> {
    form(query.as_deref().unwrap_or_default())
}

/// `application/x-www-form-urlencoded`.
pub fn form(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| {
        let mut bytes = Vec::with_capacity(part.len());
        let mut rest = part.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            let hex = |bytes: &[u8]| u8::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok();
            match (first, tail.get(..2).and_then(hex)) {
                (b'+', _) => bytes.push(b' '),
                (b'%', Some(byte)) => {
                    bytes.push(byte);
                    rest = &tail[2..];
                    continue;
                }
                (byte, _) => bytes.push(*byte),
            }
            rest = tail;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn wanted(query: &[(String, String)]) -> Option<Wanted> {
    let flag = |names: [&str; 2]| {
        query
            .iter()
            .any(|(name, value)| names.contains(&name.as_str()) && matches!(value.as_str(), "1" | "true"))
    };
    let tty = flag(["tty", "tty"]);
    let wanted = Wanted {
        stdin: flag(["input", "stdin"]),
        stdout: flag(["output", "stdout"]),
        // A terminal has one output.
        stderr: flag(["error", "stderr"]) && !tty,
        tty,
    };
    (wanted.stdin || wanted.stdout || wanted.stderr).then_some(wanted)
}

/// The running container a path names, or why there is none.
fn locate(state: &State, path: &HashMap<String, String>) -> Result<String, (StatusCode, String)> {
    let of = |name: &str| path.get(name).map(String::as_str).unwrap_or_default();
    let (namespace, name, container) = (of("namespace"), of("pod"), of("container"));
    let missing = || (StatusCode::NOT_FOUND, format!("pod does not exist: {name}_{namespace}"));
    let inbox = state.find(namespace, name).ok_or_else(missing)?;
    let uid = of("uid");
    if !uid.is_empty() && spec::uid(&inbox.pod()) != uid {
        return Err(missing());
    }
    let observed = inbox.observed();
    let running = observed.latest(container).filter(|seen| seen.running());
    running
        .map(|seen| seen.id.clone())
        .ok_or_else(|| (StatusCode::NOT_FOUND, format!("container not found (\"{container}\")")))
}

fn options(wanted: Wanted) -> StreamOptions {
    StreamOptions { stdin: wanted.stdin, stdout: wanted.stdout, stderr: wanted.stderr, tty: wanted.tty }
}

pub async fn exec(
    Extract(state): Extract<State>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    let query = parse(query);
    let command: Vec<String> = query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect();
    let Some(wanted) = wanted(&query) else {
        return refuse("you must specify at least 1 of stdin, stdout, stderr");
    };
    let id = match locate(&state, &path) {
        Ok(id) => id,
        Err(refused) => return refused.into_response(),
    };
    let runtime = Arc::clone(&state.agent.runtime);
    connect(upgrade, wanted, async move { runtime.exec(&id, &command, options(wanted)).await })
}

pub async fn attach(
    Extract(state): Extract<State>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Response {
    let Some(wanted) = wanted(&parse(query)) else {
        return refuse("you must specify at least 1 of stdin, stdout, stderr");
    };
    let id = match locate(&state, &path) {
        Ok(id) => id,
        Err(refused) => return refused.into_response(),
    };
    let runtime = Arc::clone(&state.agent.runtime);
    connect(upgrade, wanted, async move {
        let mut streams = runtime.attach(&id, options(wanted)).await?;
        // How the container ends is in its status, not in the attachment's.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let ended = std::mem::replace(&mut streams.exit, receiver);
        tokio::spawn(async move {
            let result = ended.await.unwrap_or(Ok(0)).map(|_| 0);
            // Nobody waits for it once the client is gone.
            let _ = sender.send(result);
        });
        Ok(streams)
    })
}

fn connect<F>(upgrade: Upgrade, wanted: Wanted, start: F) -> Response
where
    F: Future<Output = knarr_runtime::cri::Result<knarr_runtime::cri::Streams>> + Send + 'static,
{
    match upgrade {
        Upgrade::WebSocket(upgrade) => upgrade
            .protocols(PROTOCOLS)
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .on_upgrade(move |socket| websocket::serve(socket, wanted, start)),
        Upgrade::Spdy(upgrade) => spdy::exec::answer(upgrade, wanted, start),
    }
}

/// Runs a command to its end and answers its output; old, and still there.
pub async fn run(
    Extract(state): Extract<State>,
    Path(path): Path<HashMap<String, String>>,
    RawQuery(query): RawQuery,
) -> Response {
    let command: Vec<String> = parse(query)
        .into_iter()
        .filter(|(name, _)| name == "cmd")
        .flat_map(|(_, value)| value.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>())
        .collect();
    let id = match locate(&state, &path) {
        Ok(id) => id,
        Err(refused) => return refused.into_response(),
    };
    match state.agent.runtime.exec_sync(&id, &command, Duration::ZERO).await {
        Ok(result) => {
            let mut body = result.stdout;
            body.extend_from_slice(&result.stderr);
            body.into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_keep_their_order_and_their_blanks() {
        let query = form("command=sh&command=-c&command=echo+a%20b%26c&stdout=true&tty=1&stderr=1");
        let command: Vec<&str> =
            query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.as_str()).collect();
        assert_eq!(command, ["sh", "-c", "echo a b&c"]);
        assert_eq!(wanted(&query), Some(Wanted { stdout: true, tty: true, ..Wanted::default() }));
        assert_eq!(wanted(&form("command=x")), None);
        assert_eq!(form("a=%zz&b=%4"), [("a".into(), "%zz".into()), ("b".into(), "%4".into())]);
    }
}
