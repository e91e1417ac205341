//! A container's log, as the kubelet streams it.

use axum::body::Body;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use knarr_api::status::{Details, Status, reason};

use super::options::{self, Query};
use super::pod::Pod;
use super::{Streams, Target};

/// As much of a kubelet's refusal as is passed on.
const MAX_REFUSAL: usize = 50_000;
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain");

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
            return Ok(plain(Body::empty()));
        }
        let verify = !query.flag("insecureSkipTLSVerifyBackend");
        let location = self.kubelets.locate(&*self.objects, &pod.spec.node_name, verify).await?;
        let path = params.on(&format!("/containerLogs/{namespace}/{name}/{container}"));
        let request = Request::get(&path)
            .header(HOST, location.authority())
            .body(Body::empty())
            .map_err(Status::internal)?;
        let answer = self.backend.send(&location, request).await.map_err(|error| {
            let why = format!("Get \"https://{}{path}\": {error}", location.authority());
            Status::failure(500, "", why)
        })?;
        if (200..=206).contains(&answer.status().as_u16()) {
            return Ok(plain(Body::new(answer.into_body())));
        }
        Err(refusal(answer, name).await)
    }
}

fn plain(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
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
