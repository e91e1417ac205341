//! gRPC probes: one call of `grpc.health.v1.Health/Check`, whose two messages are small enough to be written here.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http::Stream;
use super::run::Outcome;
use super::tcp::authority;

const MAX_ANSWER: usize = 64 * 1024;
const SERVING: u64 = 1;
const UNIMPLEMENTED: i32 = 12;
const DEADLINE_EXCEEDED: i32 = 4;

enum CallError {
    /// No answer at all.
    Connect,
    Status {
        code: i32,
        message: String,
    },
}

/// `tls`: speak TLS, whatever the certificate (`mode: TLS`).
pub async fn probe(
    host: &str,
    port: u16,
    service: &str,
    tls: Option<&Arc<rustls::ClientConfig>>,
    timeout: Duration,
) -> Outcome {
    let address = authority(host, port);
    let after = timeout.as_secs();
    match tokio::time::timeout(timeout, check(host, &address, service, tls)).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            let name = match status {
                0 => "UNKNOWN".to_owned(),
                2 => "NOT_SERVING".to_owned(),
                3 => "SERVICE_UNKNOWN".to_owned(),
                other => other.to_string(),
            };
            Outcome::Failure(format!(
                "service unhealthy (responded with \"{name}\"), service: \"{service}\", address: \"{address}\""
            ))
        }
        Ok(Err(CallError::Connect)) | Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {after}s: context deadline exceeded"
        )),
        Ok(Err(CallError::Status { code: UNIMPLEMENTED, .. })) => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): \"{address}\""
        )),
        Ok(Err(CallError::Status { code: DEADLINE_EXCEEDED, .. })) => {
            Outcome::Failure(format!("timeout: health rpc did not complete within {after}s"))
        }
        Ok(Err(CallError::Status { message, .. })) => {
            Outcome::Failure(format!("error: health rpc probe failed: {message}"))
        }
    }
}

async fn check(
    host: &str,
    address: &str,
    service: &str,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<u64, CallError> {
    let connect = |_: &dyn std::fmt::Display| CallError::Connect;
    let stream = TcpStream::connect(address).await.map_err(|e| connect(&e))?;
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(stream),
        Some(tls) => {
            let mut tls = (**tls).clone();
            tls.alpn_protocols = vec![b"h2".to_vec()];
            let name = ServerName::try_from(host.to_owned()).map_err(|e| connect(&e))?;
            let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await;
            Box::new(stream.map_err(|e| connect(&e))?)
        }
    };
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|e| connect(&e))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let request = Request::post(format!("{scheme}://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(encode(service)))
        .map_err(|e| connect(&e))?;
    let call = async move {
        let response = sender.send_request(request).await.map_err(|e| connect(&e))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| connect(&e))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field = |name: &str| {
            trailers
                .get(name)
                .or_else(|| parts.headers.get(name))
                .and_then(|v| v.to_str().ok())
                .map(String::from)
        };
        let code = field("grpc-status").and_then(|code| code.parse().ok()).unwrap_or(2);
        if code != 0 {
            return Err(CallError::Status { code, message: field("grpc-message").unwrap_or_default() });
        }
        Ok(decode(&body.to_bytes()))
    };
    tokio::pin!(call);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut call => answer,
        _ = &mut connection => call.await,
    }
}

/// `HealthCheckRequest{service}` with gRPC's five bytes before it.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(&message);
    framed.freeze()
}

/// `HealthCheckResponse.status`; an absent or unreadable field is 0 (UNKNOWN).
fn decode(framed: &[u8]) -> u64 {
    match framed.get(5..) {
        Some([0x08, status, ..]) if *status < 0x80 => u64::from(*status),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed_as_grpc_does() {
        assert_eq!(&encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&encode("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 0x08, 1]), SERVING);
        assert_eq!(decode(&[0, 0, 0, 0, 0]), 0);
        assert_eq!(decode(&[]), 0);
    }
}
