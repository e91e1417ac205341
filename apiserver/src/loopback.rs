//! The server as its own client: writes that the server itself makes take the same way as everybody's.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use knarr_api::status::Status;
use knarr_api::version;
use serde_json::Value;
use tower::ServiceExt;

use crate::authn::InProcess;
use crate::user::{User, UserInfo};

/// An answer of our own is an object or a Status, never longer than an object may be.
const MAX_BODY: usize = 16 << 20;

/// Requests to this server's own router as `system:apiserver`.
///
/// The router exists only after what needs this was built, so it is connected later; requests before that are
/// refused with 503.
#[derive(Clone)]
pub struct Loopback {
    router: Arc<OnceLock<Router>>,
    user: User,
}

impl Default for Loopback {
    fn default() -> Self {
        Self { router: Arc::default(), user: Arc::new(UserInfo::loopback()) }
    }
}

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loopback")
    }
}

impl Loopback {
    /// Connects to the finished router. A second call changes nothing.
    pub fn connect(&self, router: Router) {
        // The first router stays: nobody builds two servers around one loopback.
        drop(self.router.set(router));
    }

    /// The object at a path, `None` when there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, Status> {
        match self.send(Method::GET, path, None).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.code == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Creates an object in a collection.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, Status> {
        self.send(Method::POST, path, Some(object)).await
    }

    /// Replaces the object at a path.
    pub async fn update(&self, path: &str, object: &Value) -> Result<Value, Status> {
        self.send(Method::PUT, path, Some(object)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, Status> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Status> {
        let router =
            self.router.get().ok_or_else(|| Status::service_unavailable("the server is not ready yet"))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, version::user_agent("kube-apiserver"));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |object| Body::from(object.to_string()));
        let mut request = request.body(body).map_err(Status::internal)?;
        request.extensions_mut().insert(InProcess(self.user.clone()));
        let response = router.clone().oneshot(request).await.map_err(Status::internal)?;
        let code = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_BODY);
        let bytes = body.collect().await.map_err(Status::internal)?.to_bytes();
        answer(code, &bytes)
    }
}

fn answer(code: StatusCode, bytes: &[u8]) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        Status::internal(format!("the server answered itself {code} with no JSON: {error}"))
    })?;
    if code.is_success() {
        return Ok(value);
    }
    Err(serde_json::from_value(value).unwrap_or_else(|error| {
        Status::internal(format!("the server answered itself {code} without a Status: {error}"))
    }))
}
