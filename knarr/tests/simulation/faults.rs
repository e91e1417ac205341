//! What goes wrong between a component and the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use knarr_api::time::SharedRandom;
use knarr_client::{Client, connect::in_process};
use kube::client::Body;
use serde_json::json;
use tokio::time::sleep;
use tower::{BoxError, service_fn};

const REFUSALS: [(u16, &str); 5] = [
    (500, "InternalError"),
    (429, "TooManyRequests"),
    (409, "Conflict"),
    (503, "ServiceUnavailable"),
    (403, "Forbidden"),
];
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

const LOST: (u16, &str) = (504, "Timeout");

/// The trouble of one play.
pub struct Faults {
    chance: SharedRandom,
    active: AtomicBool,
    /// Pods that may have been made without anybody being told: their owner may rightly make others.
    unanswered_pods: AtomicUsize,
}

/// What connects one incarnation of a component with the server; cut when it crashes.
#[derive(Default)]
pub struct Link(AtomicBool);

impl Link {
    pub fn cut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> Result<(), BoxError> {
        let cut = self.0.load(Ordering::Relaxed);
        if cut { Err(io::Error::from(io::ErrorKind::BrokenPipe).into()) } else { Ok(()) }
    }
}

impl Faults {
    pub fn new(chance: SharedRandom) -> Arc<Self> {
        Arc::new(Self { chance, active: AtomicBool::new(true), unanswered_pods: AtomicUsize::new(0) })
    }

    pub fn end(&self) {
        self.active.store(false, Ordering::Relaxed);
    }

    pub fn unanswered_pods(&self) -> usize {
        self.unanswered_pods.load(Ordering::Relaxed)
    }

    /// A client whose requests go through this trouble and over this link.
    pub fn between(self: &Arc<Self>, client: Client, link: &Arc<Link>) -> Client {
        let (faults, link) = (self.clone(), link.clone());
        in_process(service_fn(move |request: Request<Body>| {
            let (faults, link, client) = (faults.clone(), link.clone(), client.clone());
            async move { faults.carry(&client, &link, request).await }
        }))
    }

    fn one_in(&self, number: u64) -> bool {
        self.active.load(Ordering::Relaxed) && self.chance.below(number) == 0
    }

    /// Most things happen at once, some a little later, and few much later.
    async fn delay(&self) {
        let longest = match () {
            () if self.one_in(50) => 4_000,
            () if self.one_in(4) => 200,
            () => return,
        };
        sleep(Duration::from_millis(self.chance.below(longest))).await;
    }

    async fn carry(
        self: &Arc<Self>,
        client: &Client,
        link: &Arc<Link>,
        request: Request<Body>,
    ) -> Result<Answer, BoxError> {
        link.check()?;
        self.delay().await;
        link.check()?;
        if self.one_in(15) {
            return Ok(refusal(REFUSALS[self.chance.below(REFUSALS.len() as u64) as usize]));
        }
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let makes_pod = request.method() == Method::POST && request.uri().path().ends_with("/pods");
        let answer = client.send(request).await;
        if makes_pod && (answer.is_err() || link.check().is_err()) {
            self.unanswered_pods.fetch_add(1, Ordering::Relaxed);
        }
        let answer = answer?;
        link.check()?;
        if is_watch {
            return Ok(answer.map(|body| self.unreliable(body, link)));
        }
        if self.one_in(25) {
            if makes_pod && answer.status().is_success() {
                self.unanswered_pods.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(refusal(LOST));
        }
        self.delay().await;
        link.check()?;
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }

    /// A watch whose events come late, come twice, or end in the middle of one.
    fn unreliable(self: &Arc<Self>, body: Body, link: &Arc<Link>) -> UnsyncBoxBody<Bytes, BoxError> {
        let begin = (Some(body), self.clone(), link.clone());
        let frames = stream::unfold(begin, |(body, faults, link)| async move {
            let mut body = body?;
            let frame = match body.frame().await? {
                Ok(frame) => frame,
                Err(error) => return Some((Err(BoxError::from(error)), (None, faults, link))),
            };
            faults.delay().await;
            if let Err(error) = link.check() {
                return Some((Err(error), (None, faults, link)));
            }
            let Ok(data) = frame.into_data() else { return None };
            if faults.one_in(60) {
                let half = data.slice(..data.len() / 2);
                return Some((Ok(Frame::data(half)), (None, faults, link)));
            }
            let data = if faults.one_in(20) && is_one_line(&data) { twice(&data) } else { data };
            Some((Ok(Frame::data(data)), (Some(body), faults, link)))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

fn is_one_line(data: &Bytes) -> bool {
    data.ends_with(b"\n") && !data[..data.len() - 1].contains(&b'\n')
}

fn twice(data: &Bytes) -> Bytes {
    [&data[..], &data[..]].concat().into()
}

fn refusal((code, reason): (u16, &str)) -> Answer {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": "injected",
    });
    let answer = Response::builder().status(code).header("content-type", "application/json");
    let body = Full::from(status.to_string().into_bytes()).map_err(|never| match never {}).boxed_unsync();
    answer.body(body).expect("constants make an answer")
}
