//! The audit webhook: a server of the operator's that events are posted to, as its kubeconfig says.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt;
use knarr_apiserver::audit::{Backend, Undelivered};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// How long one delivery may take.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Webhook {
    client: kube::Client,
    path: String,
}

impl Webhook {
    pub async fn open(file: &Path) -> anyhow::Result<Self> {
        let config = Kubeconfig::read_from(file).with_context(|| format!("reading {}", file.display()))?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
        let mut config = config.with_context(|| format!("loading {}", file.display()))?;
        // The URL names the very place, which is no root for paths.
        let path = config.cluster_url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        let mut root = std::mem::take(&mut config.cluster_url).into_parts();
        root.path_and_query = Some("/".parse()?);
        config.cluster_url = Uri::from_parts(root)?;
        // When it is tried again is decided elsewhere.
        config.default_retry = false;
        Ok(Self { client: kube::Client::try_from(config)?, path })
    }

    async fn post(&self, list: Bytes) -> Result<(), Undelivered> {
        let lost = |message: String| Undelivered { message, again: true };
        let request = Request::post(&self.path).header("content-type", "application/json");
        let request = request.body(Body::from(list.to_vec())).map_err(|error| lost(error.to_string()))?;
        let answer = self.client.send(request).await.map_err(|error| lost(error.to_string()))?;
        let status = answer.status();
        // The connection is used again only after the answer has been read.
        answer.into_body().collect().await.map_err(|error| lost(error.to_string()))?;
        if status.is_success() {
            return Ok(());
        }
        let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(Undelivered { message: format!("the audit webhook answered {status}"), again })
    }
}

#[async_trait]
impl Backend for Webhook {
    async fn deliver(&self, list: Bytes) -> Result<(), Undelivered> {
        let late = |_| Undelivered { message: format!("no answer within {TIMEOUT:?}"), again: true };
        tokio::time::timeout(TIMEOUT, self.post(list)).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use axum::Router;
    use axum::extract::{Request as Asked, State};
    use parking_lot::Mutex;

    type Seen = Arc<Mutex<Vec<(String, Option<String>, Bytes)>>>;

    /// Keeps what it is sent, and refuses what it is told to refuse.
    async fn listen(State(seen): State<Seen>, asked: Asked) -> StatusCode {
        let path = asked.uri().to_string();
        let token = asked.headers().get("authorization").and_then(|token| token.to_str().ok());
        let token = token.map(str::to_owned);
        let body = asked.into_body().collect().await.expect("a body").to_bytes();
        let answer = match &body[..] {
            b"late" => StatusCode::SERVICE_UNAVAILABLE,
            b"wrong" => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        };
        seen.lock().push((path, token, body));
        answer
    }

    #[tokio::test]
    async fn events_go_to_the_very_place_the_kubeconfig_names_and_refusals_are_told_apart() {
        let seen = Seen::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let router = Router::new().fallback(listen).with_state(seen.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("webhook.kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:{port}/audit/events?cluster=a'}}}}]\n\
             users: [{{name: u, user: {{token: secret}}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
        );
        std::fs::write(&file, text).expect("writes");
        let webhook = Webhook::open(&file).await.expect("opens");
        webhook.deliver(Bytes::from_static(b"{}")).await.expect("is taken");
        let (path, token, body) = seen.lock()[0].clone();
        assert_eq!(path, "/audit/events?cluster=a");
        assert_eq!(token.as_deref(), Some("Bearer secret"));
        assert_eq!(&body[..], b"{}");
        assert!(webhook.deliver(Bytes::from_static(b"late")).await.expect_err("refused").again);
        assert!(!webhook.deliver(Bytes::from_static(b"wrong")).await.expect_err("refused").again);
        serving.abort();
        let gone = serving.await;
        assert!(gone.is_err_and(|error| error.is_cancelled()));
    }
}
