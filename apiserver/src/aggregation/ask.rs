//! Questions of this server's own to a remote.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Limited};

use super::{Aggregator, Remote, proxy};
use crate::user::UserInfo;

const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document: an OpenAPI description of everything a large server has.
const MAX_DOCUMENT: usize = 32 << 20;

impl Aggregator {
    /// GETs a path of the remote, as the given user. Says where it asked, too.
    pub(super) async fn ask(
        &self,
        remote: &Remote,
        path: &str,
        accept: &'static str,
        user: &UserInfo,
    ) -> Result<(StatusCode, Bytes), String> {
        let location = self.resolve(remote)?;
        let url = format!("https://{}{path}", location.authority());
        let failed = |why: String| format!("failing or missing response from {url}: Get {url:?}: {why}");
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-aggregator"));
        proxy::vouch(&mut headers, user);
        let mut request = Request::get(path).body(Body::empty()).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let asked = async {
            let answer = self.config.streams.pass_on(&location, request).await.map_err(|e| e.to_string())?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, MAX_DOCUMENT).collect().await.map_err(|e| e.to_string())?;
            Ok((parts.status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| failed("context deadline exceeded".into()))?
            .map_err(failed)?;
        Ok((status, body))
    }
}
