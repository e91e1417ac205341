//! HTTP probes and hooks: a status from 200 to 399 is success. Redirects to the same host are followed, others are a
//! warning.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::run::{HttpTarget, Outcome};
use super::tcp::{authority, dial_error};

/// How much of an answer is read.
const MAX_BODY: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("invalid URL: {0}")]
    Url(String),
    #[error("{0}")]
    Dial(String),
    /// What was asked over TLS answered in plain HTTP.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainAnswer,
    #[error("remote error: tls: {0}")]
    Tls(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    Timeout,
    #[error("stopped after {MAX_REDIRECTS} redirects")]
    TooManyRedirects,
}

/// An answer, its body cut.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// Where a redirect that was not followed leads.
    pub redirect: Option<String>,
}

/// A connection, plain or encrypted.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The URL of an action.
pub fn url_of(target: &HttpTarget<'_>, scheme: &str) -> String {
    let path = target.action.path.as_deref().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{}{slash}{path}", authority(target.host, target.port))
}

pub fn scheme_of(action: &HTTPGetAction) -> &'static str {
    if action.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")) { "https" } else { "http" }
}

pub async fn probe(target: HttpTarget<'_>, tls: &Arc<rustls::ClientConfig>, timeout: Duration) -> Outcome {
    let url = url_of(&target, scheme_of(target.action));
    match get(&url, target, tls, timeout).await {
        Ok(Answer { redirect: Some(to), .. }) => {
            Outcome::Warning(format!("Probe terminated redirects, Response body: , redirected to {to}"))
        }
        Ok(answer) if (200..400).contains(&answer.status) => Outcome::Success,
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(error) => Outcome::Failure(format!("Get \"{url}\": {error}")),
    }
}

/// Asks and follows redirects on the same host.
pub async fn get(
    url: &str,
    target: HttpTarget<'_>,
    tls: &Arc<rustls::ClientConfig>,
    timeout: Duration,
) -> Result<Answer, HttpError> {
    let run = async {
        let mut uri: Uri = url.parse().map_err(|e: http::uri::InvalidUri| HttpError::Url(e.to_string()))?;
        for _ in 0..=MAX_REDIRECTS {
            let (answer, location) = ask(&uri, target, tls).await?;
            let Some(location) = location else { return Ok(answer) };
            let next = resolve(&uri, &location)?;
            if next.host() != uri.host() {
                return Ok(Answer { redirect: Some(next.to_string()), ..answer });
            }
            uri = next;
        }
        Err(HttpError::TooManyRedirects)
    };
    tokio::time::timeout(timeout, run).await.unwrap_or(Err(HttpError::Timeout))
}

fn resolve(base: &Uri, location: &str) -> Result<Uri, HttpError> {
    let parsed: Uri = location.parse().map_err(|e: http::uri::InvalidUri| HttpError::Url(e.to_string()))?;
    if parsed.scheme().is_some() {
        return Ok(parsed);
    }
    let mut parts = base.clone().into_parts();
    parts.path_and_query = parsed.path_and_query().cloned();
    Uri::from_parts(parts).map_err(|e| HttpError::Url(e.to_string()))
}

async fn ask(
    uri: &Uri,
    target: HttpTarget<'_>,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<(Answer, Option<String>), HttpError> {
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let stream = connect(&host, port, https.then_some(tls)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = request(uri, target)?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let location =
            parts.headers.get(header::LOCATION).and_then(|v| v.to_str().ok()).map(ToOwned::to_owned);
        let redirects = matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        // A body that is too long or breaks off says nothing about the status.
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => String::new(),
        };
        let answer = Answer { status: parts.status.as_u16(), body, redirect: None };
        Ok::<_, HttpError>((answer, location.filter(|_| redirects)))
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = &mut connection => {
            ended?;
            exchange.await
        }
    }
}

async fn connect(
    host: &str,
    port: u16,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Box<dyn Stream>, HttpError> {
    let address = authority(host, port);
    let stream = TcpStream::connect(&address).await.map_err(|e| HttpError::Dial(dial_error(&address, &e)))?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned()).map_err(|e| HttpError::Url(e.to_string()))?;
    match TlsConnector::from(Arc::clone(tls)).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData && looks_plain(&error) => {
            Err(HttpError::PlainAnswer)
        }
        Err(error) => Err(HttpError::Tls(error)),
    }
}

/// A record that is no TLS record: the other side speaks plain HTTP.
fn looks_plain(error: &std::io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidMessage(_)))
}

fn request(uri: &Uri, target: HttpTarget<'_>) -> Result<Request<Empty<Bytes>>, HttpError> {
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let bad = |e: http::Error| HttpError::Url(e.to_string());
    let mut request = Request::builder().method(Method::GET).uri(path).body(Empty::new()).map_err(bad)?;
    let headers = request.headers_mut();
    for given in target.action.http_headers.iter().flatten() {
        let name =
            HeaderName::from_bytes(given.name.as_bytes()).map_err(|e| HttpError::Url(e.to_string()))?;
        let value = HeaderValue::from_str(&given.value).map_err(|e| HttpError::Url(e.to_string()))?;
        headers.append(name, value);
    }
    let default = |name: HeaderName, value: &str, headers: &mut http::HeaderMap| {
        if !headers.contains_key(&name)
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
    };
    default(header::USER_AGENT, target.user_agent, headers);
    default(header::ACCEPT, "*/*", headers);
    default(header::HOST, uri.authority().map_or("", |a| a.as_str()), headers);
    default(header::CONNECTION, "close", headers);
    // Given empty, these are asked to be left out.
    for name in [header::USER_AGENT, header::ACCEPT] {
        if headers.get(&name).is_some_and(HeaderValue::is_empty) {
            headers.remove(&name);
        }
    }
    Ok(request)
}
