//! `/containerLogs/<namespace>/<pod>/<container>`.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Path, Query, State as Extract};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::State;
use crate::logs::line::Stream;
use crate::logs::read::{self, Options, Running};
use crate::logs::rotate::path_of;
use crate::pod::observed::Observed;
use crate::pod::spec;

/// Chunks waiting for a slow reader.
const WAITING: usize = 4;

/// Why there is no log, as a plain answer.
type Refusal = (StatusCode, String);

fn refuse(status: StatusCode, text: impl Into<String>) -> Refusal {
    (status, text.into())
}

/// Reads the query as upstream's PodLogOptions.
fn options(query: &HashMap<String, String>, now: Timestamp) -> Result<(Options, bool), Refusal> {
    let undecodable = || refuse(StatusCode::BAD_REQUEST, r#"{"message": "Unable to decode query."}"#);
    let invalid = || refuse(StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#);
    let flag =
        |name: &str| query.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "false" | "0"));
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse::<i64>().map(Some).map_err(|_| undecodable()),
    };
    let tail = match query.get("tail").map(String::as_str) {
        Some("all") => None,
        Some(tail) if !tail.is_empty() => Some(tail.parse::<i64>().map_err(|_| undecodable())?),
        _ => number("tailLines")?,
    };
    let (limit, since_seconds) = (number("limitBytes")?, number("sinceSeconds")?);
    let since_time = match query.get("sinceTime") {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| undecodable())?),
    };
    let negative = |number: Option<i64>, least: i64| number.is_some_and(|number| number < least);
    if negative(tail, 0) || negative(limit, 1) || negative(since_seconds, 1) {
        return Err(invalid());
    }
    if since_seconds.is_some() && since_time.is_some() {
        return Err(invalid());
    }
    let stream = match query.get("stream").map(String::as_str) {
        None | Some("" | "All") => None,
        Some("Stdout") => Some(Stream::Stdout),
        Some("Stderr") => Some(Stream::Stderr),
        Some(_) => return Err(invalid()),
    };
    let since = since_seconds.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let options = Options {
        follow: flag("follow"),
        tail_lines: tail.and_then(|lines| u64::try_from(lines).ok()),
        since: since.or(since_time),
        limit_bytes: limit.and_then(|bytes| u64::try_from(bytes).ok()),
        timestamps: flag("timestamps"),
        stream,
    };
    Ok((options, flag("previous")))
}

fn find_status<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// The container whose log is meant, or why there is none, in upstream's words.
fn choose(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    let place = format!("container {container:?} in pod {pod:?}");
    let found = find_status(status, container).ok_or_else(|| format!("{place} is not available"))?;
    let bare = |id: Option<&str>| {
        let id = id.filter(|id| !id.is_empty())?;
        Some(id.split_once("://").map_or(id, |(_, id)| id).to_owned())
    };
    let last = found.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last_id = last.and_then(|ended| bare(ended.container_id.as_deref()));
    if previous {
        return last_id.ok_or_else(|| format!("previous terminated {place} not found"));
    }
    let state = found.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return bare(found.container_id.as_deref()).ok_or_else(|| format!("{place} is not available"));
    }
    if let Some(ended) = state.terminated {
        let id = bare(ended.container_id.as_deref()).or(last_id);
        return id.ok_or_else(|| format!("{place} is terminated"));
    }
    if last.is_some() {
        return last_id.ok_or_else(|| format!("{place} is terminated"));
    }
    let Some(waiting) = state.waiting else {
        return Err(format!("{place} is waiting to start - no logs yet"));
    };
    let reason = waiting.reason.unwrap_or_default();
    Err(match reason.as_str() {
        "ErrImagePull" => format!("{place} is waiting to start: image can't be pulled"),
        "ImagePullBackOff" => format!("{place} is waiting to start: trying and failing to pull image"),
        _ => format!("{place} is waiting to start: {reason}"),
    })
}

struct Follow {
    state: State,
    /// What the pod's worker sees: a container's end is among it.
    seen: Mutex<watch::Receiver<Arc<Observed>>>,
    id: String,
}

#[async_trait]
impl Running for Follow {
    async fn running(&self) -> bool {
        // A container that is gone writes no more.
        let status = self.state.agent.runtime.container_status(&self.id).await;
        status.is_ok_and(|status| {
            use knarr_runtime::cri::ContainerState as S;
            matches!(status.state, S::Running | S::Created)
        })
    }

    async fn changed(&self) {
        if self.seen.lock().await.changed().await.is_err() {
            // The pod is gone; its log ends with the container's removal.
            std::future::pending().await
        }
    }
}

pub async fn handle(
    Extract(state): Extract<State>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match open(state, (&namespace, &name, &container), &query).await {
        Ok(body) => ([(header::CONTENT_TYPE, "text/plain")], body).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Finds the log and begins to send it.
async fn open(
    state: State,
    (namespace, name, container): (&str, &str, &str),
    query: &HashMap<String, String>,
) -> Result<Body, Refusal> {
    let (options, previous) = options(query, state.agent.now())?;
    let inbox = state
        .find(namespace, name)
        .ok_or_else(|| refuse(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist")))?;
    let pod = inbox.pod();
    if spec::find_container(&pod, container).is_none() {
        let text = format!("container {container:?} not found in pod {name:?}");
        return Err(refuse(StatusCode::NOT_FOUND, text));
    }
    let status = state.agent.status.get(spec::uid(&pod)).or_else(|| pod.status.clone()).unwrap_or_default();
    let bad = |text: String| refuse(StatusCode::BAD_REQUEST, text);
    let id = choose(&status, name, container, previous).map_err(bad)?;
    let found = state.agent.runtime.container_status(&id).await;
    let found =
        found.map_err(|error| bad(format!("failed to try resolving symlinks of container {id}: {error}")))?;
    let path = path_of(&state.agent, &found);
    let seen = Mutex::new(inbox.follow());
    let (sender, receiver) = mpsc::channel(WAITING);
    // Ends with the log, or with its reader.
    tokio::spawn(async move {
        let follow = Follow { state, seen, id };
        if let Err(error) = read::send(path, options, &follow, sender.clone()).await {
            tracing::debug!(%error, "reading a container's log ended");
            // Whoever reads sees the stream break off.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(Body::from_stream(ReceiverStream::new(receiver)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStateWaiting};

    use super::*;

    fn status(state: ContainerState, last: Option<&str>) -> PodStatus {
        let ended = |id: &str| ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(id.into()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        };
        PodStatus {
            container_statuses: Some(vec![ContainerStatus {
                name: "c".into(),
                state: Some(state),
                last_state: last.map(ended),
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        }
    }

    fn waiting(reason: &str) -> ContainerState {
        ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason.into()), message: None }),
            ..ContainerState::default()
        }
    }

    #[test]
    fn a_container_without_log_says_why() {
        let pull = choose(&status(waiting("ImagePullBackOff"), None), "p", "c", false);
        assert_eq!(
            pull.expect_err("no log"),
            "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image"
        );
        let previous = choose(&status(waiting("x"), None), "p", "c", true);
        assert_eq!(previous.expect_err("none"), "previous terminated container \"c\" in pod \"p\" not found");
        let crashed = choose(&status(waiting("CrashLoopBackOff"), Some("knarr://1")), "p", "c", false);
        assert_eq!(crashed.as_deref(), Ok("1"));
    }

    #[test]
    fn queries_are_checked() {
        let now = Timestamp::from_second(100).expect("in range");
        let parse = |pairs: &[(&str, &str)]| {
            let query = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            options(&query, now)
        };
        let (good, previous) =
            parse(&[("follow", "true"), ("tailLines", "5"), ("sinceSeconds", "10"), ("previous", "1")])
                .expect("good");
        assert!(good.follow && previous);
        assert_eq!((good.tail_lines, good.since.map(|t| t.as_second())), (Some(5), Some(90)));
        for bad in [
            ("tailLines", "-1"),
            ("limitBytes", "0"),
            ("tailLines", "x"),
            ("stream", "Both"),
            ("sinceTime", "y"),
        ] {
            assert!(parse(&[bad]).is_err(), "{bad:?}");
        }
    }
}
