//! SPDY/3.1, as much of it as kubectl and its kin speak: streams with headers, data, half-close, reset, ping. No flow
//! control (the clients have none), no push.

pub mod connection;
pub mod exec;
pub mod forward;
pub mod frame;
pub mod headers;

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;

const PROTOCOL_HEADER: &str = "x-stream-protocol-version";

/// A request to speak SPDY from here on.
pub struct Upgrade {
    on_upgrade: OnUpgrade,
    /// Subprotocols the client offers, the best first.
    offered: Vec<String>,
}

impl Upgrade {
    /// `None` where the connection cannot be upgraded (HTTP/2).
    pub fn take(parts: &mut Parts) -> Option<Self> {
        let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
        let values = parts.headers.get_all(PROTOCOL_HEADER).iter().filter_map(|value| value.to_str().ok());
        let offered = values.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).collect();
        Some(Self { on_upgrade, offered })
    }

    /// The first of the client's that we know; the oldest where it offers none.
    fn choose(&self, known: &[&'static str], fallback: &'static str) -> Option<&'static str> {
        if self.offered.is_empty() {
            return Some(fallback);
        }
        self.offered.iter().find_map(|offered| known.iter().find(|known| *known == offered).copied())
    }

    /// Switches protocols and runs `serve` on the connection.
    fn answer<F>(self, protocol: &'static str, serve: impl FnOnce(Io) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let on_upgrade = self.on_upgrade;
        // Ends with the connection, which the server's own task tracking ends at the latest.
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => serve(hyper_util::rt::TokioIo::new(upgraded)).await,
                Err(error) => tracing::debug!(%error, "a client asked for SPDY and went away"),
            }
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(PROTOCOL_HEADER, HeaderValue::from_static(protocol));
        response
    }

    fn refuse(&self, known: &[&str]) -> Response {
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            self.offered.join(" "),
            known.join(" ")
        );
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    }
}

type Io = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;
