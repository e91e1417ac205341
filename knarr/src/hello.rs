//! `knarr hello`: the content of the image `knarr.local/hello`, so that the first deployment needs no registry.

use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Html;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub const PORT: u16 = 8080;

/// Set in the image: which node it was imported on.
pub const NODE_NAME: &str = "NODE_NAME";

/// Requests still come for a moment after SIGTERM, until every proxy has heard that this pod is going.
const LINGER: Duration = Duration::from_secs(3);

#[derive(Clone)]
struct Names {
    pod: String,
    node: String,
}

pub fn run() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())?;
    Ok(ExitCode::SUCCESS)
}

async fn serve() -> anyhow::Result<()> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let names = Names { pod: variable("HOSTNAME"), node: variable(NODE_NAME) };
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        // A kernel without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", PORT)).await.with_context(|| format!("port {PORT}"))?,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tokio::time::sleep(LINGER).await,
            _ = interrupt.recv() => {}
        }
    };
    let service = router(names).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await.context("serving")
}

fn router(names: Names) -> Router {
    Router::new().fallback(page).with_state(names)
}

async fn page(
    State(names): State<Names>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Html<String>, Infallible> {
    let mut headers = String::new();
    for (name, value) in request.headers() {
        headers += &format!("{name}: {}\n", escape(&String::from_utf8_lossy(value.as_bytes())));
    }
    Ok(Html(format!(
        "<!doctype html>\n<title>Hello</title>\n<h1>Hello from knarr</h1>\n\
         <p>pod: {}</p>\n<p>node: {}</p>\n<p>client: {}</p>\n<pre>\n{} {}\n{headers}</pre>\n",
        escape(&names.pod),
        escape(&names.node),
        client.ip().to_canonical(),
        request.method(),
        escape(&request.uri().to_string()),
    )))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn the_page_names_pod_node_and_request_and_repeats_no_markup() {
        let names = Names { pod: "web-1".into(), node: "n1".into() };
        let mut request =
            Request::builder().uri("/a?b=%3C").header("x", "<script>").body(Body::empty()).expect("valid");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 9], 1234))));
        let response = router(names).oneshot(request).await.expect("infallible");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("text");
        for expected in ["pod: web-1", "node: n1", "client: 10.0.0.9", "GET /a?b=%3C", "x: &lt;script&gt;"] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }
}
