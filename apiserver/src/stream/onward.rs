//! A request handed over whole: path, query and body as they came.

use axum::body::Body;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use knarr_api::status::Status;

use super::backend::{Error, Location};
use super::{Streams, headers, relay};

/// Why a request was not answered by the one it was handed to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Backend(#[from] Error),
    #[error("{}", .0.message)]
    Relay(Box<Status>),
    #[error("the request has a path that cannot be sent: {0}")]
    Path(#[from] http::Error),
}

impl Streams {
    /// Sends the request to the same path at another server, and answers as that does; an upgraded connection is
    /// relayed. Credentials for this server are left out, other headers go along.
    pub(crate) async fn pass_on(
        &self,
        location: &Location,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failed> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        if let Some(protocol) = headers::upgrade(request.headers()) {
            let relayed = relay::relay(self, location, &path, protocol, request).await;
            return relayed.map_err(|status| Failed::Relay(Box::new(status)));
        }
        let (parts, body) = request.into_parts();
        let mut onward = Request::builder().method(&parts.method).uri(path).body(body)?;
        *onward.headers_mut() = headers::request(&parts);
        if let Ok(host) = HeaderValue::from_str(&location.authority()) {
            onward.headers_mut().insert(HOST, host);
        }
        let (mut parts, body) = self.backend.send(location, onward).await?.into_parts();
        headers::response(&mut parts.headers);
        Ok(Response::from_parts(parts, Body::new(body)))
    }
}
