//! An upgraded connection, handed through byte for byte.

use axum::body::Body;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use knarr_api::status::Status;
use tokio::io::copy_bidirectional;

use super::backend::Location;
use super::{Streams, headers};

/// Sends an upgrade request on to `path` at `location` and answers as the other end does. When it upgrades, the two
/// connections are joined until both directions have ended, each closed when its source is.
pub(super) async fn relay(
    streams: &Streams,
    location: &Location,
    path: &str,
    protocol: HeaderValue,
    mut request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let client: OnUpgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let mut onward =
        Request::builder().method(&parts.method).uri(path).body(Body::empty()).map_err(Status::internal)?;
    *onward.headers_mut() = headers::request(&parts);
    headers::changed_body(onward.headers_mut());
    onward.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    onward.headers_mut().insert(UPGRADE, protocol);
    let mut answer = streams
        .backend
        .send(location, onward)
        .await
        .map_err(|error| Status::failure(500, "", error.to_string()))?;
    match answer.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            let server = hyper::upgrade::on(&mut answer);
            let upgrade = answer.headers().get(UPGRADE).cloned();
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let mut kept = std::mem::take(answer.headers_mut());
            headers::response(&mut kept);
            *response.headers_mut() = kept;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Some(upgrade) = upgrade {
                response.headers_mut().insert(UPGRADE, upgrade);
            }
            let stop = streams.stop.clone();
            streams.relays.spawn(async move {
                if let Some(joined) = stop.run_until_cancelled(join(client, server)).await {
                    report(joined);
                }
            });
            Ok(response)
        }
        code if code.as_u16() < 400 => {
            Err(Status::failure(500, "", format!("invalid upgrade response: status code {}", code.as_u16())))
        }
        // A refusal is the client's to read.
        _ => {
            let (mut parts, body) = answer.into_parts();
            headers::response(&mut parts.headers);
            Ok(Response::from_parts(parts, Body::new(body)))
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("upgrading: {0}")]
    Upgrade(#[from] hyper::Error),
    #[error("relaying: {0}")]
    Copy(#[from] std::io::Error),
}

async fn join(client: OnUpgrade, server: OnUpgrade) -> Result<(u64, u64), Broken> {
    let (client, server): (Upgraded, Upgraded) = tokio::try_join!(client, server)?;
    Ok(copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await?)
}

fn report(joined: Result<(u64, u64), Broken>) {
    match joined {
        Ok((up, down)) => tracing::debug!(up, down, "stream ended"),
        // Clients end sessions by hanging up.
        Err(error) => tracing::debug!(%error, "stream broke"),
    }
}
