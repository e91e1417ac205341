//! One resource's list and watch, for ever: list, watch from there, watch again when the watch ends, list again
//! when the server has forgotten where we were.

use std::time::Duration;

use http::{Request, StatusCode, header::ACCEPT};
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use knarr_api::time::SharedRandom;
use kube::{Client, client::Body};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    SharedInformer,
    wire::{DecodeError, Line, Lines, ListPage, decode_line},
};
use crate::{lenient, object::Cached};

/// Objects asked for at once.
const PAGE: &str = "500";
/// A watch asks the server to end it after this long, and up to twice that, so that not all end together.
const WATCH_SECONDS: u64 = 300;
/// How long past its end a silent watch is believed to be alive.
const WATCH_GRACE: Duration = Duration::from_secs(30);

/// Why a list or watch failed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("request failed: {0}")]
    Request(#[from] kube::Error),
    #[error("request could not be built: {0}")]
    Build(#[from] http::Error),
    #[error("server answered {code}: {message}")]
    Status { code: u16, message: String },
    #[error("list is not valid: {0}")]
    List(#[from] serde_json::Error),
    #[error(transparent)]
    Watch(#[from] DecodeError),
    #[error("nothing heard for longer than the watch may last")]
    Silent,
}

impl ListError {
    fn is_expired(&self) -> bool {
        matches!(self, Self::Status { code: 410, .. })
    }
}

/// Upstream's pause between attempts: 800 ms doubling to 30 s, with as much jitter again.
struct Backoff {
    next: Duration,
    random: SharedRandom,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(800);
    const LONGEST: Duration = Duration::from_secs(30);

    fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    async fn pause(&mut self) {
        let jittered = self.next.mul_f64(1.0 + self.random.unit());
        self.next = (self.next * 2).min(Self::LONGEST);
        sleep(jittered).await;
    }
}

pub(super) struct Reflector<K: Cached> {
    pub(super) client: Client,
    pub(super) informer: SharedInformer<K>,
    pub(super) random: SharedRandom,
}

impl<K: Cached> Reflector<K> {
    /// Keeps the informer current until `stop` is cancelled.
    pub(super) async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut backoff = Backoff { next: Backoff::FIRST, random: self.random.clone() };
        loop {
            match self.list().await {
                Ok(version) => {
                    backoff.reset();
                    self.watch_from(version, &mut backoff).await;
                }
                Err(error) => {
                    warn!(selection = %self.informer.selection(), %error, "cannot list");
                    backoff.pause().await;
                }
            }
        }
    }

    /// Watches again and again until the server no longer has the changes since `version`.
    async fn watch_from(&self, mut version: String, backoff: &mut Backoff) {
        loop {
            let before = version.clone();
            match self.watch(&mut version).await {
                Ok(()) => {
                    debug!(selection = %self.informer.selection(), version, "watch ended");
                    // A server that ends every watch at once must not be asked in a loop.
                    if before == version { backoff.pause().await } else { backoff.reset() }
                }
                Err(error) if error.is_expired() => {
                    debug!(selection = %self.informer.selection(), version, "watch expired, listing again");
                    return;
                }
                Err(error) => {
                    warn!(selection = %self.informer.selection(), %error, "watch broke");
                    backoff.pause().await;
                }
            }
        }
    }

    async fn send(&self, url: String) -> Result<http::Response<Body>, ListError> {
        let mut request = Request::get(url);
        if self.informer.selection().is_metadata_only() {
            request =
                request.header(ACCEPT, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
        }
        let response = self.client.send(request.body(Body::empty())?).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = response.into_body().collect_bytes().await?;
        let message = match serde_json::from_slice::<Status>(&body) {
            Ok(status) => status.message.unwrap_or_default(),
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        Err(ListError::Status { code, message })
    }

    /// Replaces the informer's content by a full list and gives the list's resourceVersion.
    async fn list(&self) -> Result<String, ListError> {
        let (mut objects, mut token) = (Vec::new(), String::new());
        loop {
            let page = match self.list_page(&token).await {
                // The snapshot we were paging through is gone: start again from a newer one.
                Err(error) if error.is_expired() && !token.is_empty() => {
                    objects.clear();
                    token.clear();
                    continue;
                }
                page => page?,
            };
            objects.extend(page.items);
            if page.metadata.continue_token.is_empty() {
                for object in &mut objects {
                    K::shrink(object);
                }
                self.informer.replace(objects);
                return Ok(page.metadata.resource_version);
            }
            token = page.metadata.continue_token;
        }
    }

    async fn list_page(&self, token: &str) -> Result<ListPage<K>, ListError> {
        let mut parameters = vec![("limit", PAGE)];
        if !token.is_empty() {
            parameters.push(("continue", token));
        }
        let response = self.send(self.informer.selection().url(&parameters)).await?;
        let body = response.into_body().collect_bytes().await?;
        Ok(lenient::read(&body)?)
    }

    /// Applies events until the server ends the watch; `version` always says how far we are.
    async fn watch(&self, version: &mut String) -> Result<(), ListError> {
        let seconds = WATCH_SECONDS + self.random.below(WATCH_SECONDS);
        let url = self.informer.selection().url(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", &seconds.to_string()),
        ]);
        let mut body = self.send(url).await?.into_body();
        let mut lines = Lines::default();
        let patience = Duration::from_secs(seconds) + WATCH_GRACE;
        while let Some(frame) = timeout(patience, body.frame()).await.map_err(|_| ListError::Silent)? {
            let Ok(chunk) = frame?.into_data() else { continue };
            lines.push(&chunk)?;
            while let Some(line) = lines.next_line() {
                self.apply(decode_line(&line)?, version)?;
            }
        }
        Ok(())
    }

    fn apply(&self, line: Line<K>, version: &mut String) -> Result<(), ListError> {
        match line {
            Line::Event(event, reached) => {
                self.informer.apply(event);
                *version = reached;
            }
            Line::Bookmark(reached) => *version = reached,
            Line::Error(status) => {
                return Err(ListError::Status {
                    code: status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
                    message: status.message.unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}
