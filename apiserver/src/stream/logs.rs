//! A container's log, as the kubelet streams it.

use axum::body::Body;
use axum::extract::ws::Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, Limited};
use hyper::body::Incoming;
use knarr_api::status::{Details, Status, reason};

use super::options::{self, Query};
use super::pod::Pod;
use super::{Streams, Target};
use crate::web_socket;

/// As much of a kubelet's refusal as is passed on.
const MAX_REFUSAL: usize = 50_000;
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

impl Streams {
    pub(super) async fn log(
        &self,
        target: Target<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let Target { namespace, name, .. } = target;
        let query = Query::parse(request.uri().query());
        let params = options::log(&query, name)?;
        let pod = Pod::read(&*self.objects, namespace, name).await?;
        let container = pod.container(name, query.first("container"))?;
        if pod.spec.node_name.is_empty() {
            // A pod that is nowhere has said nothing yet.
            return Ok(empty(StatusCode::NO_CONTENT));
        }
        let verify = !query.flag("insecureSkipTLSVerifyBackend");
        let location = self.kubelets.locate(&*self.objects, &pod.spec.node_name, verify).await?;
        let path = params.on(&format!("/containerLogs/{namespace}/{name}/{container}"));
        let question = Request::get(&path)
            .header(HOST, location.authority())
            .body(Body::empty())
            .map_err(Status::internal)?;
        let answer = self.backend.send(&location, question).await.map_err(|error| {
            let why = format!("Get \"https://{}{path}\": {error}", location.authority());
            Status::failure(500, "", why)
        })?;
        if !(200..=206).contains(&answer.status().as_u16()) {
            return Err(refusal(answer, name).await);
        }
        if web_socket::is_wanted(request.headers()) {
            return Ok(self.over_socket(request, answer.into_body()).await);
        }
        let mut response = Response::new(Body::new(answer.into_body()));
        response.headers_mut().insert(CONTENT_TYPE, PLAIN);
        Ok(response)
    }

    async fn over_socket(&self, request: Request<Body>, log: Incoming) -> Response<Body> {
        let offered = web_socket::offered(request.headers());
        let protocol = match offered.as_slice() {
            [] => "",
            offered => match offered.iter().find(|name| matches!(**name, BINARY | BASE64)) {
                Some(&BASE64) => BASE64,
                Some(_) => BINARY,
                None => return empty(StatusCode::FORBIDDEN),
            },
        };
        let messages = messages(log, protocol == BASE64).take_until(self.stop.clone().cancelled_owned());
        web_socket::serve(request, protocol, messages).await
    }
}

/// The log piece by piece. An empty message comes first, which tells the client that all is well.
fn messages(log: Incoming, base64: bool) -> impl Stream<Item = Message> {
    let whole = BodyStream::new(log).take_while(|frame| std::future::ready(frame.is_ok()));
    let pieces = whole.filter_map(async |frame| frame.ok()?.into_data().ok());
    stream::once(async { Bytes::new() }).chain(pieces).map(move |piece| match base64 {
        true => Message::Text(STANDARD.encode(piece).into()),
        false => Message::Binary(piece),
    })
}

fn empty(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// The kubelet's refusal as a Status: its text is the message.
async fn refusal(answer: Response<Incoming>, pod: &str) -> Status {
    let code = answer.status();
    let text = match Limited::new(answer.into_body(), MAX_REFUSAL).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => return Status::internal(error),
    };
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        code => {
            let (reason, said) = match code {
                StatusCode::NOT_FOUND => {
                    (reason::NOT_FOUND, "the server could not find the requested resource")
                }
                StatusCode::UNAUTHORIZED => {
                    (reason::UNAUTHORIZED, "the server has asked for the client to provide credentials")
                }
                StatusCode::FORBIDDEN => (reason::FORBIDDEN, text.as_str()),
                StatusCode::SERVICE_UNAVAILABLE => {
                    (reason::SERVICE_UNAVAILABLE, "the server is currently unable to handle the request")
                }
                _ => ("", "the server responded with the status code but did not return more information"),
            };
            let mut status = Status::failure(code.as_u16(), reason, format!("{said} ( pods/log {pod})"));
            status.details =
                Some(Box::new(Details { name: pod.into(), kind: "pods/log".into(), ..Details::default() }));
            status
        }
    }
}
