//! Questions of this server's own to kubelets.

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Limited};
use knarr_api::status::Status;

use super::Streams;

/// The longest answer: figures of a full node.
const MAX_ANSWER: usize = 16 << 20;

impl Streams {
    /// GETs a path of a node's kubelet; anything but success is a failure.
    pub(crate) async fn ask_kubelet(&self, node: &str, path: &str) -> Result<Bytes, Status> {
        let location = self.kubelets.locate(&*self.objects, node, true).await?;
        let request = Request::get(path)
            .header(HOST, location.authority())
            .body(Body::empty())
            .map_err(Status::internal)?;
        let answer = self.backend.send(&location, request).await.map_err(Status::internal)?;
        if !answer.status().is_success() {
            let code = answer.status();
            return Err(Status::internal(format!("the kubelet of {node} answered {path} with {code}")));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(Status::internal)?;
        Ok(body.to_bytes())
    }
}
