//! The server's end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use knarr_runtime::build::{Progress, Request};
use knarr_runtime::image::Description;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use super::{
    BuildEvent, Failure, Image, ImportRequest, JoinInfo, PullRequest, PushRequest, SaveRequest, Saved,
    SnapshotRequest, Socket, Status, TagRequest, TokenRequest,
};

/// What the command line may ask of a running cluster.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn status(&self) -> anyhow::Result<Status>;
    async fn create_token(&self, ttl: Duration) -> anyhow::Result<JoinInfo>;
    async fn stop_pods(&self) -> anyhow::Result<()>;
    async fn images(&self) -> anyhow::Result<Vec<Image>>;
    async fn import(&self, archive: &Path) -> anyhow::Result<Vec<String>>;
    async fn pull(&self, reference: &str) -> anyhow::Result<Image>;
    async fn remove_image(&self, reference: &str) -> anyhow::Result<()>;
    async fn tag(&self, name: &str, tag: &str) -> anyhow::Result<()>;
    async fn inspect(&self, name: &str) -> anyhow::Result<Description>;
    async fn save(&self, request: SaveRequest) -> anyhow::Result<()>;
    async fn push(&self, request: PushRequest) -> anyhow::Result<String>;
    /// Builds an image; lines of progress go where they are asked for.
    async fn build(&self, request: Request, progress: Progress) -> anyhow::Result<Image>;
    async fn save_snapshot(&self, file: &Path) -> anyhow::Result<Saved>;
}

type Shared = State<Arc<dyn Backend>>;

/// The data directory's socket, which answers once it is served. The caller holds the directory's lock, so a socket
/// that is there already was left by a dead process.
pub struct Listening {
    listener: UnixListener,
    // Its address leads through the open directory.
    socket: Socket,
}

/// Makes the socket: from now on others can connect.
pub fn listen(data_dir: &Path) -> anyhow::Result<Listening> {
    let socket = Socket::of(data_dir)?;
    let address = socket.address();
    match std::fs::remove_file(&address) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the old socket in {}", data_dir.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(&address).with_context(|| format!("control socket in {}", data_dir.display()))?;
    std::fs::set_permissions(&address, std::fs::Permissions::from_mode(0o600))?;
    Ok(Listening { listener, socket })
}

/// Answers until shutdown, and removes the socket then.
pub async fn serve(
    listening: Listening,
    backend: Arc<dyn Backend>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let Listening { listener, socket } = listening;
    let router = Router::new()
        .route("/status", get(async |State(b): Shared| answer(b.status().await)))
        .route(
            "/tokens",
            post(async |State(b): Shared, Json(r): Json<TokenRequest>| {
                answer(b.create_token(Duration::from_secs(r.ttl_seconds)).await)
            }),
        )
        .route("/pods/stop", post(async |State(b): Shared| answer(b.stop_pods().await)))
        .route("/images", get(async |State(b): Shared| answer(b.images().await)))
        .route(
            "/images/import",
            post(async |State(b): Shared, Json(r): Json<ImportRequest>| answer(b.import(&r.path).await)),
        )
        .route(
            "/images/pull",
            post(async |State(b): Shared, Json(r): Json<PullRequest>| answer(b.pull(&r.reference).await)),
        )
        .route(
            "/images/remove",
            post(async |State(b): Shared, Json(r): Json<PullRequest>| {
                answer(b.remove_image(&r.reference).await)
            }),
        )
        .route(
            "/images/tag",
            post(async |State(b): Shared, Json(r): Json<TagRequest>| answer(b.tag(&r.name, &r.tag).await)),
        )
        .route(
            "/images/inspect",
            post(async |State(b): Shared, Json(r): Json<PullRequest>| answer(b.inspect(&r.reference).await)),
        )
        .route(
            "/images/save",
            post(async |State(b): Shared, Json(r): Json<SaveRequest>| answer(b.save(r).await)),
        )
        .route(
            "/images/push",
            post(async |State(b): Shared, Json(r): Json<PushRequest>| answer(b.push(r).await)),
        )
        .route("/images/build", post(async |State(b): Shared, Json(r): Json<Request>| build(b, r)))
        .route(
            "/snapshots",
            post(async |State(b): Shared, Json(r): Json<SnapshotRequest>| {
                answer(b.save_snapshot(&r.path).await)
            }),
        )
        .with_state(backend);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await?;
    std::fs::remove_file(socket.address()).context("removing the control socket")
}

/// Answers while the build goes on; when whoever asked hangs up, the build ends too.
fn build(backend: Arc<dyn Backend>, request: Request) -> Response {
    let (progress, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let (events, answer) = futures::channel::mpsc::unbounded();
    let told = async move {
        let mut building = backend.build(request, progress);
        let built = loop {
            tokio::select! {
                biased;
                Some(line) = lines.recv() => tell(&events, &BuildEvent::Line(line))?,
                built = &mut building => break built,
            }
        };
        while let Ok(line) = lines.try_recv() {
            tell(&events, &BuildEvent::Line(line))?;
        }
        let last = match built {
            Ok(image) => BuildEvent::Done(image),
            Err(error) => BuildEvent::Failed(format!("{error:#}")),
        };
        tell(&events, &last)
    };
    // The work is done by whoever reads the answer, and so ends with the connection.
    let work = futures::stream::once(told).filter_map(async |done| done.err().map(Err));
    let stream = futures::stream::select(answer.map(Ok), work);
    Response::new(axum::body::Body::from_stream(stream))
}

fn tell(
    events: &futures::channel::mpsc::UnboundedSender<Vec<u8>>,
    event: &BuildEvent,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    events.unbounded_send(line).map_err(std::io::Error::other)
}

fn answer<T: serde::Serialize>(result: anyhow::Result<T>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let failure = Failure { message: format!("{error:#}") };
            (StatusCode::INTERNAL_SERVER_ERROR, Json(failure)).into_response()
        }
    }
}
